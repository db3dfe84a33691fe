/* report_fixture KIND FOLDER: writes a made-up sweep for the browser test and for looking at pages. */
#include <stdio.h>

#include "report_fixture.h"

int main(int argc, char **argv) {
    if (argc == 3 && report_fixture_write(argv[1], argv[2])) return 0;
    fprintf(stderr, "report_fixture full|one|broken|running|empty|hostile|thousand FOLDER\n");
    return 2;
}
