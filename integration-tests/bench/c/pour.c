// A long answer by hand: a line with a number comes, and as many bytes go, copied into a buffer of 64 KiB and written
// from there as the socket takes them. usage: pour ADDR PORT
#include "epoll.h"

enum { LINE = 64, BLOCK = 65536 };

struct peer {
    int fd;
    size_t length; // of the line that has begun
    char line[LINE];
    unsigned long left; // bytes that are to be made; nothing is read meanwhile
    size_t sent, size;  // of the output
    char output[BLOCK];
};

static char block[BLOCK]; // what is sent, again and again

// Writes once. 0 if the connection is lost.
static int put(struct peer *peer) {
    if (peer->sent == peer->size) {
        peer->sent = 0;
        peer->size = peer->left < BLOCK ? peer->left : BLOCK;
        memcpy(peer->output, block, peer->size);
        peer->left -= peer->size;
    }
    ssize_t count = send(peer->fd, peer->output + peer->sent, peer->size - peer->sent, MSG_NOSIGNAL);
    if (count < 0)
        return errno == EAGAIN || errno == EINTR;
    peer->sent += count;
    if (peer->sent == peer->size && !peer->left)
        watch(EPOLL_CTL_MOD, peer->fd, EPOLLIN, peer);
    return 1;
}

// Reads a number. 0 if the connection is over.
static int serve(struct peer *peer) {
    ssize_t count = read(peer->fd, peer->line + peer->length, LINE - 1 - peer->length);
    if (count <= 0)
        return count < 0 && (errno == EAGAIN || errno == EINTR);
    peer->length += count;
    if (!memchr(peer->line, '\n', peer->length))
        return peer->length < LINE - 1;
    peer->line[peer->length] = 0;
    peer->length = 0;
    peer->left = strtoul(peer->line, NULL, 10);
    if (!peer->left)
        return 0;
    watch(EPOLL_CTL_MOD, peer->fd, EPOLLOUT, peer);
    return put(peer);
}

int main(int count, char **words) {
    for (int i = 0; i < BLOCK; i++)
        block[i] = i * 7 + i / 256;
    int listener = listen_at(count, words);
    struct epoll_event events[EVENTS];
    for (;;) {
        int ready = epoll_wait(poller, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            struct peer *peer = events[i].data.ptr;
            if (!peer)
                while (take(listener, sizeof *peer))
                    ;
            else if (!(peer->left || peer->sent < peer->size ? put(peer) : serve(peer))) {
                close(peer->fd);
                free(peer);
            }
        }
    }
}
