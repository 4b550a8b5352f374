/* The inner loops of calibration: what histogram.py also does in NumPy, in one pass over the values.
 *
 * Plain C99 without Python's headers, called through ctypes (which lets other threads run meanwhile). The package works
 * without it, with the same results: see kernel.py, and hatch_build.py, which compiles it when a compiler is there.
 */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define BLOCK 1024 /* values at a time: 4 KiB, so that the second look finds them in the L1 cache */
#define GROUP 16   /* values of which at most a few are among the largest */
#define LINE 16    /* values of a cache line */

#ifdef __GNUC__
#define PREFETCH(address) __builtin_prefetch(address) /* no harm beyond the end */
#else
#define PREFETCH(address) ((void)0)
#endif

typedef struct {
    float low, high;
    int nan;
} seen;

static const seen NOTHING = {INFINITY, -INFINITY, 0};

static inline void look(float x, seen *s)
{
    s->low = x < s->low ? x : s->low;
    s->high = x > s->high ? x : s->high;
    s->nan |= x != x;
}

static void tell(const seen *s, float extremes[2])
{
    extremes[0] = s->nan ? NAN : s->low;
    extremes[1] = s->nan ? NAN : s->high;
}

#ifdef __SSE2__ /* part of x86-64; compilers do not find the instructions for a minimum that minds NaN by themselves */

typedef struct {
    __m128 low, high, nan;
} seen4;

static inline seen4 start4(void)
{
    return (seen4){_mm_set1_ps(INFINITY), _mm_set1_ps(-INFINITY), _mm_setzero_ps()};
}

static inline void look4(__m128 x, seen4 *s)
{
    s->low = _mm_min_ps(x, s->low); /* the second where one is NaN */
    s->high = _mm_max_ps(x, s->high);
    s->nan = _mm_or_ps(s->nan, _mm_cmpunord_ps(x, x));
}

static inline void add4(const seen4 *from, seen *s)
{
    float low[4], high[4];
    _mm_storeu_ps(low, from->low);
    _mm_storeu_ps(high, from->high);
    for (int k = 0; k < 4; k++) {
        look(low[k], s);
        look(high[k], s);
    }
    s->nan |= _mm_movemask_ps(from->nan) != 0;
}

static inline __m128 magnitude4(__m128 x)
{
    return _mm_and_ps(x, _mm_castsi128_ps(_mm_set1_epi32(0x7fffffff)));
}

#endif

/* extremes: the least and the greatest of n values, n > 0; NaN where one of them is NaN. */
void ptqbridge_extremes(const float *restrict values, size_t n, float *restrict extremes)
{
    seen s = NOTHING;
    size_t i = 0;
#ifdef __SSE2__
    seen4 even = start4(), odd = start4();
    for (; i + 8 <= n; i += 8) {
        look4(_mm_loadu_ps(values + i), &even);
        look4(_mm_loadu_ps(values + i + 4), &odd);
    }
    if (i) {
        add4(&even, &s);
        add4(&odd, &s);
    }
#endif
    for (; i < n; i++)
        look(values[i], &s);
    tell(&s, extremes);
}

/* Counts how many |x| * scale fall on each of the bins 0..last, and finds the extremes as above.
 *
 * tables: 4 * (last + 1) zeros, returned as zeros. counts: last + 1 numbers, added to, unless something lies beyond the
 * last bin and clip is 0: then they stay, and 0 is returned instead of 1. With clip it counts in the last bin.
 * n must be below 2**32. */
int ptqbridge_histogram(const float *restrict values, size_t n, float scale, uint32_t last, int clip,
                        uint32_t *restrict tables, int64_t *restrict counts, float *restrict extremes)
{
    const size_t bins = (size_t)last + 1;
    const float most = (float)last;
    int32_t index[BLOCK];
    seen s = NOTHING;

    for (size_t start = 0; start < n; start += BLOCK) {
        const size_t size = n - start < BLOCK ? n - start : BLOCK;
        const float *restrict block = values + start;
        size_t i = 0;
#ifdef __SSE2__
        seen4 s4 = start4();
        for (; i + 4 <= size; i += 4) {
            const __m128 x = _mm_loadu_ps(block + i);
            look4(x, &s4);
            const __m128 scaled = magnitude4(_mm_mul_ps(x, _mm_set1_ps(scale)));
            /* the second where one is NaN, so that it stays inside the table */
            _mm_storeu_si128((__m128i *)(index + i), _mm_cvttps_epi32(_mm_min_ps(scaled, _mm_set1_ps(most))));
        }
        if (i)
            add4(&s4, &s);
#endif
        for (; i < size; i++) {
            const float scaled = fabsf(block[i] * scale);
            look(block[i], &s);
            index[i] = (int32_t)(scaled < most ? scaled : most);
        }
        /* Neighbours are often equal (zeros behind a ReLU): with tables of their own they need not wait for each other.
         * Two indices are read at once; which of them is first does not matter. */
        for (i = 0; i + 4 <= size; i += 4) {
            uint64_t one, two;
            if (i % LINE == 0)
                PREFETCH(block + BLOCK + i); /* the next block comes from memory while this one is counted */
            memcpy(&one, index + i, sizeof one);
            memcpy(&two, index + i + 2, sizeof two);
            tables[4 * (one & 0xffffffff)]++;
            tables[4 * (one >> 32) + 1]++;
            tables[4 * (two & 0xffffffff) + 2]++;
            tables[4 * (two >> 32) + 3]++;
        }
        for (; i < size; i++)
            tables[4 * (size_t)index[i]]++;
    }
    tell(&s, extremes);
    const float peak = -s.low > s.high ? -s.low : s.high;
    if (!clip && n && !(peak * scale < (float)bins)) {
        memset(tables, 0, 4 * bins * sizeof *tables);
        return 0;
    }
    for (size_t k = 0; k < bins; k++) {
        const uint32_t *four = tables + 4 * k;
        counts[k] += (int64_t)four[0] + four[1] + four[2] + four[3];
    }
    memset(tables, 0, 4 * bins * sizeof *tables);
    return 1;
}

/* The |x| above floor go to large, which has room for n values; their number is returned. Extremes as above. */
size_t ptqbridge_above(const float *restrict values, size_t n, float floor, float *restrict large,
                       float *restrict extremes)
{
    seen s = NOTHING;
    size_t found = 0, i = 0;
#ifdef __SSE2__
    seen4 s4 = start4();
    for (; i + GROUP <= n; i += GROUP) {
        __m128 above = _mm_setzero_ps();
        for (size_t k = i; k < i + GROUP; k += 4) {
            const __m128 x = _mm_loadu_ps(values + k);
            look4(x, &s4);
            above = _mm_or_ps(above, _mm_cmpgt_ps(magnitude4(x), _mm_set1_ps(floor)));
        }
        if (_mm_movemask_ps(above))
            for (size_t k = i; k < i + GROUP; k++) {
                const float size = fabsf(values[k]);
                large[found] = size;
                found += size > floor;
            }
    }
    if (i)
        add4(&s4, &s);
#endif
    for (; i < n; i++) {
        const float size = fabsf(values[i]);
        look(values[i], &s);
        if (size > floor)
            large[found++] = size;
    }
    tell(&s, extremes);
    return found;
}
