/* A helper over D-Bus with sd-bus: "sleep SECONDS" sleeps until SIGINT comes, "fail" fails, all else comes back. */
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-bus.h>
#include <time.h>

static int ended;

static int called(sd_bus_message *message, void *userdata, sd_bus_error *error) {
    (void)userdata;
    const void *request;
    size_t length;
    int r = sd_bus_message_read_array(message, 'y', &request, &length);
    if (r < 0)
        return r;
    if (length > 6 && memcmp(request, "sleep ", 6) == 0) {
        struct timespec time = {.tv_sec = atoi((const char *)request + 6)};
        if (nanosleep(&time, NULL) < 0 && errno == EINTR)
            return sd_bus_error_set(error, "org.usherd.Error.Failed", "interrupted");
    }
    if (length == 4 && memcmp(request, "fail", 4) == 0)
        return sd_bus_error_set(error, "org.usherd.Error.Failed.Code9", "as asked");
    sd_bus_message *reply;
    r = sd_bus_message_new_method_return(message, &reply);
    if (r >= 0)
        r = sd_bus_message_append_array(reply, 'y', request, length);
    if (r >= 0)
        r = sd_bus_send(NULL, reply, NULL);
    sd_bus_message_unref(reply);
    return r < 0 ? r : 1;
}

static int interrupted(sd_bus_message *message, void *userdata, sd_bus_error *error) {
    (void)userdata, (void)error;
    return sd_bus_reply_method_return(message, "");
}

static int goodbye(sd_bus_message *message, void *userdata, sd_bus_error *error) {
    (void)userdata, (void)error;
    ended = 1;
    return sd_bus_reply_method_return(message, "");
}

static const sd_bus_vtable vtable[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_METHOD("Call", "ayu", "ay", called, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD("Interrupt", "u", "", interrupted, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD("Goodbye", "", "", goodbye, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_SIGNAL("Ready", "usb", 0),
    SD_BUS_VTABLE_END,
};

static void nothing(int signal) { (void)signal; }

int main(void) {
    const char *path = "/org/usherd/Helper1", *interface = "org.usherd.Helper1";
    struct sigaction action = {.sa_handler = nothing}; /* no SA_RESTART: a system call that waits returns */
    sigaction(SIGINT, &action, NULL);
    sd_bus *bus;
    if (sd_bus_new(&bus) < 0 || sd_bus_set_fd(bus, 0, 0) < 0 || sd_bus_start(bus) < 0 ||
        sd_bus_add_object_vtable(bus, NULL, path, interface, vtable, NULL) < 0 ||
        sd_bus_emit_signal(bus, path, interface, "Ready", "usb", 1, "helper_dbus.c/1", 1) < 0)
        return 1;
    while (!ended) {
        int r = sd_bus_process(bus, NULL);
        if (r == 0)
            r = sd_bus_wait(bus, UINT64_MAX);
        if (r < 0 && r != -EINTR)
            return 2;
    }
    sd_bus_flush_close_unref(bus);
    return 0;
}
