/* Counts how many |x| * scale fall on each of the bins 0..last: what Scratch.counts does in NumPy, in one pass.
 *
 * Plain C99 without Python's headers, called through ctypes (which lets other threads run meanwhile). The package works
 * without it, with the same results: see kernel.py, and hatch_build.py, which compiles it when a compiler is there.
 */
#include <math.h>
#include <stddef.h>
#include <stdint.h>

#define BLOCK 1024

/* values: n finite floats. tables: 4 * (last + 1) zeros, returned as zeros. counts: last + 1 numbers, added to.
 * n must be below 2**32. */
void ptqbridge_count(const float *restrict values, size_t n, float scale, uint32_t last,
                     uint32_t *restrict tables, int64_t *restrict counts)
{
    const size_t bins = (size_t)last + 1;
    const float most = (float)last;
    uint32_t *restrict a = tables, *restrict b = a + bins, *restrict c = b + bins, *restrict d = c + bins;
    int32_t index[BLOCK];

    for (size_t start = 0; start < n; start += BLOCK) {
        const size_t size = n - start < BLOCK ? n - start : BLOCK;
        const float *restrict block = values + start;
        for (size_t i = 0; i < size; i++) {
            const float scaled = fabsf(block[i] * scale);
            index[i] = (int32_t)(scaled < most ? scaled : most); /* also keeps a NaN inside the table */
        }
        size_t i = 0;
        /* Neighbours are often equal (zeros behind a ReLU): with tables of their own they need not wait for each other. */
        for (; i + 4 <= size; i += 4) {
            a[index[i]]++;
            b[index[i + 1]]++;
            c[index[i + 2]]++;
            d[index[i + 3]]++;
        }
        for (; i < size; i++)
            a[index[i]]++;
    }
    for (size_t k = 0; k < bins; k++) {
        counts[k] += (int64_t)a[k] + b[k] + c[k] + d[k];
        a[k] = b[k] = c[k] = d[k] = 0;
    }
}
