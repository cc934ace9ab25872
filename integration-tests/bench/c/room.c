// A room by hand: level-triggered epoll, every line appended to the queue of every member, one write a member and turn.
// A line has at most 64 KiB and a queue 1 MiB; who is beyond that is put out.
// usage: room ADDR PORT
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

enum { LIMIT = 65536, READ = 65536, QUEUE = 1 << 20, EVENTS = 1024, MEMBERS = 65536 };

struct member {
    int fd;
    int blocked; // whether it waits for room
    int gone;    // it leaves at the end of the turn
    char *line;  // the start of a line whose end has not come
    size_t held;
    char *queue;
    size_t queued, capacity;
};

static int poller;
static struct member *members[MEMBERS];
static int count;
static int due; // whether somebody has been given output, or is gone
static char in[LIMIT + READ];

static void watch(struct member *member, int how, unsigned events) {
    struct epoll_event event = {.events = events, .data.ptr = member};
    epoll_ctl(poller, how, member->fd, &event);
}

static void leave(struct member *member) {
    member->gone = due = 1;
}

static void append(struct member *member, const char *line, size_t size) {
    size_t queued = member->queued + size;
    if (queued > member->capacity) {
        char *queue = queued > QUEUE ? NULL : realloc(member->queue, 2 * queued);
        if (!queue) {
            leave(member);
            return;
        }
        member->queue = queue;
        member->capacity = 2 * queued;
    }
    memcpy(member->queue + member->queued, line, size);
    member->queued = queued;
}

static void broadcast(const char *line, size_t size) {
    for (int i = 0; i < count; i++)
        append(members[i], line, size);
    due = 1;
}

// Writes once, and waits for room if that is not all.
static void put(struct member *member) {
    ssize_t written = send(member->fd, member->queue, member->queued, MSG_NOSIGNAL);
    if (written < 0 && errno != EAGAIN && errno != EINTR) {
        leave(member);
        return;
    }
    if (written > 0) {
        member->queued -= written;
        memmove(member->queue, member->queue + written, member->queued);
    }
    int blocks = member->queued > 0;
    if (blocks != member->blocked)
        watch(member, EPOLL_CTL_MOD, blocks ? EPOLLIN | EPOLLOUT : EPOLLIN);
    member->blocked = blocks;
}

// Reads once, and broadcasts each whole line.
static void hear(struct member *member) {
    size_t held = member->held;
    ssize_t got = read(member->fd, in + held, READ);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) {
        leave(member);
        return;
    }
    if (held)
        memcpy(in, member->line, held);
    char *start = in, *stop = in + held + got, *search = in + held, *lf;
    while ((lf = memchr(search, '\n', stop - search)) && lf - start <= LIMIT) {
        broadcast(start, lf + 1 - start);
        start = search = lf + 1;
    }
    member->held = stop - start;
    if (!member->held)
        return;
    char *line = member->held > LIMIT ? NULL : realloc(member->line, member->held);
    if (line)
        member->line = memcpy(line, start, member->held);
    else
        leave(member);
}

static void welcome(int listener) {
    int fd, one = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct member *member = calloc(1, sizeof *member);
        if (!member || count == MEMBERS)
            abort();
        member->fd = fd;
        members[count++] = member;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        watch(member, EPOLL_CTL_ADD, EPOLLIN);
    }
}

// The end of a turn: what was said is written, and who is gone leaves.
static void finish(void) {
    due = 0;
    for (int i = 0; i < count; i++) {
        struct member *member = members[i];
        if (member->queued && !member->blocked && !member->gone)
            put(member);
        if (member->gone) {
            close(member->fd);
            free(member->line);
            free(member->queue);
            free(member);
            members[i--] = members[--count];
        }
    }
}

int main(int words, char **word) {
    struct sockaddr_in at = {.sin_family = AF_INET};
    if (words != 3 || !inet_aton(word[1], &at.sin_addr))
        return fprintf(stderr, "usage: %s ADDR PORT\n", word[0]), 2;
    at.sin_port = htons(atoi(word[2]));
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
            struct member *member = events[i].data.ptr;
            if (!member) {
                welcome(listener);
                continue;
            }
            if (events[i].events & EPOLLOUT && !member->gone)
                put(member);
            if (events[i].events & ~EPOLLOUT && !member->gone)
                hear(member);
        }
        if (due)
            finish();
    }
}
