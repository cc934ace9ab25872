// A long answer by hand: a line with a number comes, and as many bytes go, copied into a buffer of 64 KiB and written
// from there as the socket takes them. usage: pour ADDR PORT
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LINE = 64, BLOCK = 65536, EVENTS = 1024 };

struct peer {
    int fd;
    size_t length; // of the line that has begun
    char line[LINE];
    unsigned long left; // bytes that are to be made; nothing is read meanwhile
    size_t sent, size;  // of the output
    char output[BLOCK];
};

static int poller;
static char block[BLOCK]; // what is sent, again and again

static void watch(struct peer *peer, int how, unsigned events) {
    struct epoll_event event = {.events = events, .data.ptr = peer};
    epoll_ctl(poller, how, peer->fd, &event);
}

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
        watch(peer, EPOLL_CTL_MOD, EPOLLIN);
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
    watch(peer, EPOLL_CTL_MOD, EPOLLOUT);
    return put(peer);
}

static void welcome(int listener) {
    int fd, one = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct peer *peer = calloc(1, sizeof *peer);
        if (!peer)
            abort();
        peer->fd = fd;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        watch(peer, EPOLL_CTL_ADD, EPOLLIN);
    }
}

int main(int count, char **words) {
    struct sockaddr_in at = {.sin_family = AF_INET};
    if (count != 3 || !inet_aton(words[1], &at.sin_addr))
        return fprintf(stderr, "usage: %s ADDR PORT\n", words[0]), 2;
    at.sin_port = htons(atoi(words[2]));
    for (int i = 0; i < BLOCK; i++)
        block[i] = i * 7 + i / 256;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    socklen_t size = sizeof at;
    if (bind(listener, (void *)&at, size) || listen(listener, 4096) || getsockname(listener, (void *)&at, &size))
        return perror("listen"), 1;
    printf("listening on %s:%d\n", inet_ntoa(at.sin_addr), ntohs(at.sin_port));
    fflush(stdout);

    struct epoll_event events[EVENTS], event = {.events = EPOLLIN, .data.ptr = NULL};
    poller = epoll_create1(EPOLL_CLOEXEC);
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int ready = epoll_wait(poller, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            struct peer *peer = events[i].data.ptr;
            if (!peer)
                welcome(listener);
            else if (!(peer->left || peer->sent < peer->size ? put(peer) : serve(peer))) {
                close(peer->fd);
                free(peer);
            }
        }
    }
}
