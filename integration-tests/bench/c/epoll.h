// What the servers by hand begin with: a listener, and level-triggered epoll. An event carries its connection, and NULL
// that of the listener.
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

enum { BACKLOG = 4096, EVENTS = 1024 };

static int poller;

static void watch(int how, int fd, unsigned events, void *connection) {
    struct epoll_event event = {.events = events, .data.ptr = connection};
    epoll_ctl(poller, how, fd, &event);
}

// Listens where the words of the command say, ADDR PORT, and prints where that is.
static int listen_at(int count, char **words) {
    struct sockaddr_in at = {.sin_family = AF_INET};
    if (count != 3 || !inet_aton(words[1], &at.sin_addr)) {
        fprintf(stderr, "usage: %s ADDR PORT\n", words[0]);
        exit(2);
    }
    at.sin_port = htons(atoi(words[2]));
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    socklen_t size = sizeof at;
    if (bind(listener, (void *)&at, size) || listen(listener, BACKLOG) || getsockname(listener, (void *)&at, &size)) {
        perror("listen");
        exit(1);
    }
    printf("listening on %s:%d\n", inet_ntoa(at.sin_addr), ntohs(at.sin_port));
    fflush(stdout);
    poller = epoll_create1(EPOLL_CLOEXEC);
    watch(EPOLL_CTL_ADD, listener, EPOLLIN, NULL);
    return listener;
}

// Takes the next connection, and has it watched; NULL if none waits. What it carries has `size` bytes, begins with its
// socket, and is zero otherwise.
static void *take(int listener, size_t size) {
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), one = 1;
    if (fd < 0)
        return NULL;
    int *connection = calloc(1, size);
    if (!connection)
        abort();
    *connection = fd;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    watch(EPOLL_CTL_ADD, fd, EPOLLIN, connection);
    return connection;
}
