// Messages of 1 MiB sent back by hand: level-triggered epoll, one read, one copy, one write.
// The bytes of a message are used as they come, and counted to its end. Output that is not taken waits in memory of its
// own. usage: large ADDR PORT
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

enum { MESSAGE = 1 << 20, READ = 65536, EVENTS = 1024 };

struct peer {
    int fd;
    size_t missing; // of the message that has begun
    size_t size;    // of what the socket did not take; nothing is read meanwhile
    char output[READ];
};

static int poller;
static unsigned long messages;
static char in[READ], out[READ];

static void watch(struct peer *peer, int how, unsigned events) {
    struct epoll_event event = {.events = events, .data.ptr = peer};
    epoll_ctl(poller, how, peer->fd, &event);
}

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
        watch(peer, EPOLL_CTL_MOD, waits ? EPOLLOUT : EPOLLIN);
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
    int fd, one = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct peer *peer = calloc(1, sizeof *peer);
        if (!peer)
            abort();
        peer->fd = fd;
        peer->missing = MESSAGE;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        watch(peer, EPOLL_CTL_ADD, EPOLLIN);
    }
}

int main(int count, char **words) {
    struct sockaddr_in at = {.sin_family = AF_INET};
    if (count != 3 || !inet_aton(words[1], &at.sin_addr))
        return fprintf(stderr, "usage: %s ADDR PORT\n", words[0]), 2;
    at.sin_port = htons(atoi(words[2]));
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
            else if (!(peer->size ? put(peer, peer->output, peer->size) : serve(peer))) {
                close(peer->fd);
                free(peer);
            }
        }
    }
}
