/* Boundaries of blocks found again from a piece's index, against the division that made them: every piece of all small
 * packs, and of large ones. */
#include <stdio.h>

#include "pieces.h"

static int32_t failed, checked;

static void check_pack(int32_t n, int32_t blocks) {
    uint32_t distance = piece_distance(0, (uint32_t)n, (uint32_t)blocks);
    int32_t block = 0, wrong = 0;
    for (int32_t i = 0; i < n; i++) {
        bool starts = block < blocks && piece_of_block(block, n, blocks) == i;
        if (piece_starts_block((uint32_t)i, (uint32_t)n, (uint32_t)blocks) != starts) wrong++;
        if ((distance < (uint32_t)blocks) != starts) wrong++;
        distance = piece_distance_next(distance, (uint32_t)n, (uint32_t)blocks);
        block += starts;
    }
    if (block != blocks || piece_of_block(blocks, n, blocks) != n) wrong++;
    if (wrong > 0) printf("FAILED %d pieces, %d blocks: %d\n", (int)n, (int)blocks, (int)wrong);
    failed += wrong > 0;
    checked++;
}

int main(void) {
    static const int32_t large[][2] = {{1152, 132}, {4096, 132}, {99999, 144}, {1 << 20, 148}, {70000, 70000}};
    for (int32_t n = 1; n <= 400; n++)
        for (int32_t blocks = 1; blocks <= n; blocks++)
            check_pack(n, blocks);
    for (size_t i = 0; i < sizeof large / sizeof *large; i++)
        check_pack(large[i][0], large[i][1]);
    printf("%d packs, %d failed\n", (int)checked, (int)failed);
    return failed > 0;
}
