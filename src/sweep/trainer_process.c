/* The trainer process. main forks a small helper before MPI and CUDA exist; the helper forks trainers on request and
 * hands the rank one end of a socket pair. Parent-death signals on both: no orphan ever holds a device. No other file
 * forks, but for commands that are asked for a line (deadline.c). */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lvsweep/fault.h"
#include "lvsweep/log.h"
#include "driver.h"

/* Requests on the control socket, and what comes back. */
struct helper_request {
    enum { REQUEST_SPAWN, REQUEST_REAP } kind;
    pid_t pid;
};
struct helper_reply {
    pid_t pid;
    int32_t wait_status, error;
};

static int control = -1;
static pid_t helper = -1;
static struct log_tail *last_lines; /* of the trainer, shared by rank, helper and trainer; NULL = no memory for it */

static bool write_all(int fd, const void *bytes, size_t length) {
    const char *next = bytes;
    while (length > 0) {
        ssize_t put = send(fd, next, length, MSG_NOSIGNAL);
        if (put < 0 && errno == EINTR) continue;
        if (put < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            struct pollfd waiting = {.fd = fd, .events = POLLOUT};
            poll(&waiting, 1, -1);
            continue;
        }
        if (put <= 0) return false;
        next += put;
        length -= (size_t)put;
    }
    return true;
}

static bool read_all(int fd, void *bytes, size_t length) {
    char *next = bytes;
    while (length > 0) {
        ssize_t got = read(fd, next, length);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return false;
        next += got;
        length -= (size_t)got;
    }
    return true;
}

/* ---- in the helper ---- */

static void send_reply(int fd, const struct helper_reply *reply, int passed) {
    struct iovec data = {.iov_base = (void *)reply, .iov_len = sizeof *reply};
    char space[CMSG_SPACE(sizeof(int))] = {0};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1};
    if (passed >= 0) {
        message.msg_control = space;
        message.msg_controllen = sizeof space;
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(header), &passed, sizeof passed);
    }
    while (sendmsg(fd, &message, MSG_NOSIGNAL) < 0 && errno == EINTR) {
    }
}

static void die_with_parent(pid_t parent) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(0); /* it died before the call */
}

/* The trainer's own main loop, in the child; its result is the exit code. */
static int trainer_main(int socket);

static void spawn_one(int fd) {
    struct helper_reply reply = {.pid = -1};
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
        reply.error = errno;
        send_reply(fd, &reply, -1);
        return;
    }
    pid_t self = getpid();
    reply.pid = fork();
    if (reply.pid == 0) {
        die_with_parent(self);
        close(pair[0]);
        close(fd);
        if (last_lines) last_lines->length = 0;
        log_set_tail(last_lines);
        _exit(trainer_main(pair[1]));
    }
    reply.error = reply.pid < 0 ? errno : 0;
    close(pair[1]);
    send_reply(fd, &reply, reply.pid > 0 ? pair[0] : -1);
    close(pair[0]);
}

static void helper_loop(int fd) {
    struct helper_request request;
    while (read_all(fd, &request, sizeof request)) {
        if (request.kind == REQUEST_SPAWN) {
            spawn_one(fd);
            continue;
        }
        struct helper_reply reply = {.pid = request.pid};
        while (waitpid(request.pid, &reply.wait_status, 0) < 0 && errno == EINTR) {
        }
        send_reply(fd, &reply, -1);
    }
}

enum lvs_status trainer_helper_start(struct lvs_error *err) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        return lvs_fail(err, LVS_LAUNCH, "cannot make a socket pair: %s", strerror(errno));
    void *shared = mmap(NULL, sizeof *last_lines, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    last_lines = shared == MAP_FAILED ? NULL : shared;
    pid_t self = getpid();
    helper = fork();
    if (helper < 0) return lvs_fail(err, LVS_LAUNCH, "cannot fork the trainer's helper: %s", strerror(errno));
    if (helper == 0) {
        die_with_parent(self);
        /* Signals for the job reach every process of the group; the rank decides what they mean. */
        signal(SIGINT, SIG_IGN);
        signal(SIGTERM, SIG_IGN);
        signal(SIGHUP, SIG_IGN);
        signal(SIGUSR1, SIG_IGN);
        signal(SIGUSR2, SIG_IGN);
        close(pair[0]);
        helper_loop(pair[1]);
        _exit(0);
    }
    stop_remember();
    close(pair[1]);
    control = pair[0];
    return LVS_OK;
}

void trainer_helper_end(void) {
    if (helper <= 0) return;
    close(control);
    while (waitpid(helper, NULL, 0) < 0 && errno == EINTR) {
    }
    helper = -1;
}

/* ---- in the rank ---- */

static bool receive_reply(struct helper_reply *reply, int *passed) {
    struct iovec data = {.iov_base = reply, .iov_len = sizeof *reply};
    char space[CMSG_SPACE(sizeof(int))];
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
    ssize_t got;
    while ((got = recvmsg(control, &message, MSG_CMSG_CLOEXEC | MSG_WAITALL)) < 0 && errno == EINTR) {
    }
    *passed = -1;
    if (got != (ssize_t)sizeof *reply) return false;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (header && header->cmsg_type == SCM_RIGHTS) memcpy(passed, CMSG_DATA(header), sizeof *passed);
    return true;
}

enum lvs_status trainer_spawn(struct trainer_link *link, struct lvs_error *err) {
    struct helper_request request = {.kind = REQUEST_SPAWN};
    struct helper_reply reply;
    int passed;
    if (fault_fails("trainer_spawn")) return lvs_fail(err, LVS_LAUNCH, "cannot fork a trainer: %s", strerror(errno));
    if (!write_all(control, &request, sizeof request) || !receive_reply(&reply, &passed))
        return lvs_fail(err, LVS_LAUNCH, "the trainer's helper is gone");
    if (passed < 0) return lvs_fail(err, LVS_LAUNCH, "cannot fork a trainer: %s", strerror(reply.error));
    fcntl(passed, F_SETFL, fcntl(passed, F_GETFL) | O_NONBLOCK);
    link->socket = passed;
    link->pid = reply.pid;
    strbuf_clear(&link->inbox);
    return LVS_OK;
}

struct frame {
    uint32_t kind, length;
};

static bool send_frame(int fd, enum message_kind kind, const void *payload, size_t length) {
    struct frame frame = {.kind = (uint32_t)kind, .length = (uint32_t)length};
    return write_all(fd, &frame, sizeof frame) && (length == 0 || write_all(fd, payload, length));
}

enum lvs_status trainer_send(struct trainer_link *link, enum message_kind kind, const void *payload, size_t length,
                             struct lvs_error *err) {
    fault_hit("trainer_send");
    if (!send_frame(link->socket, kind, payload, length))
        return lvs_fail(err, LVS_LAUNCH, "the trainer (pid %d) does not take messages", (int)link->pid);
    return LVS_OK;
}

/* Cuts the first whole message out of the inbox. */
static bool take_message(struct strbuf *inbox, struct message *out) {
    struct frame frame;
    if (inbox->length < sizeof frame) return false;
    memcpy(&frame, inbox->text, sizeof frame);
    size_t whole = sizeof frame + frame.length;
    if (inbox->length < whole) return false;
    *out = (struct message){.kind = (int32_t)frame.kind, .source = -1, .length = frame.length};
    if (frame.length > 0) {
        out->payload = lvs_malloc(frame.length);
        memcpy(out->payload, inbox->text + sizeof frame, frame.length);
    }
    memmove(inbox->text, inbox->text + whole, inbox->length - whole);
    inbox->length -= whole;
    return true;
}

enum trainer_event trainer_receive(struct trainer_link *link, struct message *out) {
    if (link->socket < 0) return TRAINER_QUIET;
    char block[1 << 16];
    for (;;) {
        if (take_message(&link->inbox, out)) {
            fault_hit("trainer_receive");
            return TRAINER_MESSAGE;
        }
        ssize_t got = read(link->socket, block, sizeof block);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return TRAINER_QUIET;
        if (got <= 0) return TRAINER_DEAD;
        strbuf_add_bytes(&link->inbox, block, (size_t)got);
    }
}

void trainer_reap(struct trainer_link *link, char *cause, size_t capacity) {
    struct helper_request request = {.kind = REQUEST_REAP, .pid = link->pid};
    struct helper_reply reply = {0};
    int passed;
    if (link->socket >= 0) close(link->socket);
    link->socket = -1;
    if (!write_all(control, &request, sizeof request) || !receive_reply(&reply, &passed))
        snprintf(cause, capacity, "unknown, the helper is gone");
    else if (WIFSIGNALED(reply.wait_status))
        snprintf(cause, capacity, "signal %d (%s)", WTERMSIG(reply.wait_status),
                 strsignal(WTERMSIG(reply.wait_status)));
    else
        snprintf(cause, capacity, "exit code %d", WEXITSTATUS(reply.wait_status));
    strbuf_free(&link->inbox);
}

void trainer_last_lines(char *out, size_t capacity) {
    size_t length = last_lines ? last_lines->length : 0, from = 0;
    if (length > sizeof last_lines->text) length = 0;
    while (length > 0 && last_lines->text[length - 1] == '\n')
        length--;
    if (length >= capacity) from = length - capacity + 1;
    for (size_t i = from; i < length; i++)
        *out++ = last_lines->text[i] == '\n' ? '|' : last_lines->text[i];
    *out = '\0';
}

void trainer_kill(struct trainer_link *link, int signal_number) {
    if (link->socket >= 0) kill(link->pid, signal_number);
}

/* ---- in the trainer ---- */

struct trainer_state {
    int socket;
    bool stop;
    struct strbuf inbox;
};

static bool receive_blocking(struct trainer_state *trainer, struct message *out) {
    while (!take_message(&trainer->inbox, out)) {
        char block[1 << 16];
        ssize_t got = read(trainer->socket, block, sizeof block);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return false;
        strbuf_add_bytes(&trainer->inbox, block, (size_t)got);
    }
    return true;
}

static void sink_progress(void *context, const struct progress *progress) {
    struct trainer_state *trainer = context;
    send_frame(trainer->socket, MESSAGE_PROGRESS, progress, sizeof *progress);
}

static void sink_record(void *context, const struct record *record, bool transient) {
    struct trainer_state *trainer = context;
    struct record_message message = {.record = *record, .transient = transient};
    fault_hit("trainer_record");
    send_frame(trainer->socket, MESSAGE_RECORD, &message, sizeof message);
    fault_hit("trainer_recorded");
}

static void sink_baseline(void *context, const struct baseline *baseline) {
    struct trainer_state *trainer = context;
    send_frame(trainer->socket, MESSAGE_BASELINE, baseline, sizeof *baseline);
}

/* A stop request may arrive while an assignment runs; nothing else does. */
static bool sink_should_stop(void *context) {
    struct trainer_state *trainer = context;
    char block[4096];
    ssize_t got = recv(trainer->socket, block, sizeof block, MSG_DONTWAIT);
    if (got == 0) _exit(0); /* the rank is gone */
    if (got > 0) strbuf_add_bytes(&trainer->inbox, block, (size_t)got);
    struct message message;
    while (!trainer->stop && take_message(&trainer->inbox, &message)) {
        if (message.kind == MESSAGE_STOP) trainer->stop = true;
        free(message.payload);
    }
    return trainer->stop;
}

static int trainer_refuse(struct trainer_state *trainer, const struct lvs_error *err) {
    send_frame(trainer->socket, MESSAGE_REFUSED, err, error_bytes(err));
    return err->status < 100 ? (int)err->status : LVS_BUG;
}

static void say_hello(struct trainer_state *trainer, const struct runner *runner, void *state) {
    struct worker_hello hello = {0};
    gethostname(hello.host, sizeof hello.host - 1);
    runner->describe(state, &hello.device);
    send_frame(trainer->socket, MESSAGE_HELLO, &hello, sizeof hello);
}

static int serve(struct trainer_state *trainer, const struct runner *runner, void *state) {
    struct runner_sink sink = {.context = trainer,
                               .progress = sink_progress,
                               .record = sink_record,
                               .baseline = sink_baseline,
                               .should_stop = sink_should_stop};
    struct lvs_error err = {0};
    struct message message;
    say_hello(trainer, runner, state);
    send_frame(trainer->socket, MESSAGE_READY, NULL, 0);
    while (receive_blocking(trainer, &message) && message.kind != MESSAGE_END) {
        if (message.kind == MESSAGE_STOP) trainer->stop = true;
        if (message.kind == MESSAGE_ASSIGNMENT) {
            fault_hit("trainer_start");
            struct assignment *assignment = lvs_calloc(1, sizeof *assignment);
            memcpy(assignment, message.payload,
                   message.length < sizeof *assignment ? message.length : sizeof *assignment);
            enum lvs_status status = runner->run(state, assignment, &sink, &err);
            free(assignment);
            if (status != LVS_OK) { /* its trials have their records; the rank starts another trainer */
                log_error("%s", err.text);
                return (int)status;
            }
            fault_hit("trainer_ready");
            send_frame(trainer->socket, MESSAGE_READY, NULL, 0);
        }
        free(message.payload);
    }
    return 0;
}

static int trainer_main(int socket) {
    struct trainer_state trainer = {.socket = socket};
    struct lvs_error err = {0};
    struct message message;
    if (!receive_blocking(&trainer, &message) || message.kind != MESSAGE_SETUP) return 0;
    struct setup setup;
    struct config *config = NULL;
    if (setup_unpack(message.payload, message.length, &setup, &err) != LVS_OK ||
        setup_parse_config(&setup, &config, &err) != LVS_OK)
        return trainer_refuse(&trainer, &err);
    log_set_rank(setup.head.place.worker);
    const struct runner *runner = runner_of(config);
    void *state = NULL;
    enum lvs_status status = fault_fails("trainer_open")
                                 ? lvs_fail(&err, LVS_LAUNCH, "the device does not open: %s", strerror(errno))
                                 : runner->open(config, &setup.head.place, &state, &err);
    if (status != LVS_OK) return trainer_refuse(&trainer, &err);
    int code = serve(&trainer, runner, state);
    runner->close(state);
    config_destroy(config);
    free((void *)setup.sets);
    free(message.payload);
    strbuf_free(&trainer.inbox);
    return code;
}
