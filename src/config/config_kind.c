/* What a file that was given as an INI is instead, so that the message need not list what is wrong in every line. */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "config_internal.h"

#define HEAD_BYTES 4096

static int separators(const char *line, size_t length) {
    int count = 0;
    for (size_t i = 0; i < length; i++)
        count += line[i] == ',' || line[i] == ';' || line[i] == '\t';
    return count;
}

/* Two lines of equally many cells, which are neither sections nor comments nor assignments. */
static bool is_table(const char *text) {
    int count[2] = {0};
    for (int i = 0; i < 2; i++) {
        size_t length = strcspn(text, "\n");
        if (text[0] == '\0' || strchr("[;#", text[0]) || memchr(text, '=', length)) return false;
        count[i] = separators(text, length);
        text += length + (text[length] == '\n');
    }
    return count[0] > 0 && count[0] == count[1];
}

const char *file_kind(const char *path) {
    char head[HEAD_BYTES + 1];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return NULL;
    ssize_t got = read(fd, head, HEAD_BYTES);
    close(fd);
    if (got <= 0) return NULL;
    head[got] = '\0';
    if (got >= 8 && memcmp(head, "\x89HDF\r\n\x1a\n", 8) == 0)
        return "an HDF5 file; lvsweep describe shows it, and an INI names it as [data] file";
    if (got >= 9 && memchr(head, '\0', 8) && head[8] == '{')
        return "weights (safetensors); an INI names the model's folder as [model] path";
    if (head[0] == '{') return "a JSON document";
    if (is_table(strncmp(head, "\xEF\xBB\xBF", 3) == 0 ? head + 3 : head))
        return "a table; lvsweep import makes a data file of it, which an INI names as [data] file";
    return NULL;
}
