// A room by hand: level-triggered epoll, every line appended to the queue of every member, one write a member and turn.
// A line has at most 64 KiB and a queue 1 MiB; who is beyond that is put out.
// usage: room ADDR PORT
#include "epoll.h"

enum { LIMIT = 65536, READ = 65536, QUEUE = 1 << 20, MEMBERS = 65536 };

struct member {
    int fd;
    int blocked; // whether it waits for room
    int gone;    // it leaves at the end of the turn
    char *line;  // the start of a line whose end has not come
    size_t held;
    char *queue;
    size_t queued, capacity;
};

static struct member *members[MEMBERS];
static int count;
static int due; // whether somebody has been given output, or is gone
static char in[LIMIT + READ];

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
        watch(EPOLL_CTL_MOD, member->fd, blocks ? EPOLLIN | EPOLLOUT : EPOLLIN, member);
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
    struct member *member;
    while ((member = take(listener, sizeof *member))) {
        if (count == MEMBERS)
            abort();
        members[count++] = member;
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
    int listener = listen_at(words, word);
    struct epoll_event events[EVENTS];
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
