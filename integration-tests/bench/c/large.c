// Messages of 1 MiB sent back by hand: level-triggered epoll, one read, one copy, one write.
// The bytes of a message are used as they come, and counted to its end. Output that is not taken waits in memory of its
// own. usage: large ADDR PORT
#include "epoll.h"

enum { MESSAGE = 1 << 20, READ = 65536 };

struct peer {
    int fd;
    size_t missing; // of the message that has begun
    size_t size;    // of what the socket did not take; nothing is read meanwhile
    char output[READ];
};

static unsigned long messages;
static char in[READ], out[READ];

// Writes once, and keeps the rest. 0 if the connection is lost.
static int put(struct peer *peer, const char *bytes, size_t size) {
    ssize_t count = send(peer->fd, bytes, size, MSG_NOSIGNAL);
    if (count < 0 && errno != EAGAIN && errno != EINTR)
        return 0;
    size_t taken = count < 0 ? 0 : (size_t)count;
    int waited = peer->size > 0, waits = taken < size;
    peer->size = size - taken;
    if (waits)
        memmove(peer->output, bytes + taken, peer->size);
    if (waits != waited)
        watch(EPOLL_CTL_MOD, peer->fd, waits ? EPOLLOUT : EPOLLIN, peer);
    return 1;
}

// Reads once, and echoes it, message by message. 0 if the connection is over.
static int serve(struct peer *peer) {
    ssize_t count = read(peer->fd, in, READ);
    if (count <= 0)
        return count < 0 && (errno == EAGAIN || errno == EINTR);
    for (size_t at = 0, rest = count; rest;) {
        size_t piece = rest < peer->missing ? rest : peer->missing;
        memcpy(out + at, in + at, piece);
        at += piece;
        rest -= piece;
        if (!(peer->missing -= piece)) {
            messages++;
            peer->missing = MESSAGE;
        }
    }
    return put(peer, out, count);
}

static void welcome(int listener) {
    struct peer *peer;
    while ((peer = take(listener, sizeof *peer)))
        peer->missing = MESSAGE;
}

int main(int count, char **words) {
    int listener = listen_at(count, words);
    struct epoll_event events[EVENTS];
    for (;;) {
        int ready = epoll_wait(poller, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            struct peer *peer = events[i].data.ptr;
            if (!peer)
                welcome(listener);
            else if (!(peer->size ? put(peer, peer->output, peer->size) : serve(peer))) {
                close(peer->fd);
                free(peer);
            }
        }
    }
}
