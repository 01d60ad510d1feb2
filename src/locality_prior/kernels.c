/* Built by _compiled.py, once for float and once for double.
 *
 * The first functions multiply panels of a batch by the matrix of the wires, V (rows, ·). In a panel each row is a unit
 * and each column is an example. Row i of V has the wires ends[i] … ends[i + 1] - 1; wire k comes from unit sources[k] and
 * has the weight weight[k] prior[k]. A panel is WIDTH vectors wide and contiguous, so that one of its rows stays in
 * registers while all wires of a unit are added up. Every sum is made by one thread, in the order of the wires, so the
 * result does not depend on the number of threads.
 */
#include <stdint.h>
#include <string.h>

#ifndef REAL
#define REAL float
#endif
typedef REAL real;
typedef real vector __attribute__((vector_size(32)));
/* the same for memory that need not be aligned */
typedef real loaded __attribute__((vector_size(32), aligned(sizeof(real)), may_alias));
#define LANES ((int64_t)(32 / sizeof(real)))
/* how many units a thread takes at a time, so that their common sources stay in its cache */
#define UNITS 64

#define ROWS(body)                                                              \
    _Pragma("omp parallel for schedule(dynamic, 1) num_threads((int)threads)")  \
    for (int64_t first = 0; first < rows; first += UNITS)                       \
        for (int64_t i = first; i < rows && i < first + UNITS; i++) body

/* y[i] = bias[i] + Σ_k weight[k] prior[k] x[sources[k]]; bias may be null */
#define PRODUCT(WIDTH)                                                                                            \
    void product_##WIDTH(int64_t rows, int64_t threads, const int64_t *ends, const int32_t *sources,              \
                         const real *weight, const real *prior, const real *bias, const real *x, real *y) {       \
        ROWS({                                                                                                    \
            vector sum[WIDTH];                                                                                    \
            _Pragma("GCC unroll 8") for (int w = 0; w < WIDTH; w++) sum[w] = (bias ? bias[i] : 0) + (vector){0};  \
            for (int64_t k = ends[i]; k < ends[i + 1]; k++) {                                                     \
                const real value = weight[k] * prior[k];                                                          \
                const loaded *from = (const loaded *)(x + WIDTH * LANES * sources[k]);                            \
                _Pragma("GCC unroll 8") for (int w = 0; w < WIDTH; w++) sum[w] += value * from[w];                \
            }                                                                                                     \
            loaded *to = (loaded *)(y + i * WIDTH * LANES);                                                       \
            _Pragma("GCC unroll 8") for (int w = 0; w < WIDTH; w++) to[w] = sum[w];                               \
        })                                                                                                        \
    }

/* gradient[k] = prior[k] y[i] · x[sources[k]] for the wires k of row i, added to what earlier panels wrote */
#define GRADIENT(WIDTH)                                                                                           \
    void gradient_##WIDTH(int64_t rows, int64_t threads, const int64_t *ends, const int32_t *sources, int64_t add, \
                          const real *y, const real *x, const real *prior, real *gradient) {                      \
        ROWS({                                                                                                    \
            const loaded *to = (const loaded *)(y + i * WIDTH * LANES);                                           \
            vector row[WIDTH];                                                                                    \
            _Pragma("GCC unroll 8") for (int w = 0; w < WIDTH; w++) row[w] = to[w];                               \
            for (int64_t k = ends[i]; k < ends[i + 1]; k++) {                                                     \
                const loaded *from = (const loaded *)(x + WIDTH * LANES * sources[k]);                            \
                vector sum = row[0] * from[0];                                                                    \
                _Pragma("GCC unroll 8") for (int w = 1; w < WIDTH; w++) sum += row[w] * from[w];                  \
                real total = 0;                                                                                   \
                for (int64_t lane = 0; lane < LANES; lane++) total += sum[lane];                                  \
                gradient[k] = prior[k] * total + (add ? gradient[k] : 0);                                         \
            }                                                                                                     \
        })                                                                                                        \
    }

/* x[sources[k]] = Σ weight[k] prior[k] y[i] over the wires k of all rows i. Each thread owns a share of x and works through
 * the rows that have wires there: the sources of each UNITS rows lie from low to high. The other way round, one unit of x
 * after another, the weights would be scattered all over memory. */
#define BACK(WIDTH)                                                                                               \
    void back_##WIDTH(int64_t rows, int64_t threads, int64_t units, const int64_t *ends, const int32_t *sources,  \
                      const int32_t *low, const int32_t *high, const real *weight, const real *prior,             \
                      const real *y, real *x) {                                                                   \
        _Pragma("omp parallel for schedule(static, 1) num_threads((int)threads)")                                 \
        for (int64_t thread = 0; thread < threads; thread++) {                                                    \
            const int64_t from = units * thread / threads, to = units * (thread + 1) / threads;                   \
            memset(x + from * WIDTH * LANES, 0, sizeof(real) * (to - from) * WIDTH * LANES);                      \
            for (int64_t first = 0; first < rows; first += UNITS) {                                               \
                if (high[first / UNITS] < from || low[first / UNITS] >= to) continue;                             \
                for (int64_t i = first; i < rows && i < first + UNITS; i++) {                                     \
                    const loaded *given = (const loaded *)(y + i * WIDTH * LANES);                                \
                    vector row[WIDTH];                                                                            \
                    _Pragma("GCC unroll 8") for (int w = 0; w < WIDTH; w++) row[w] = given[w];                    \
                    int64_t k = ends[i];                                                                          \
                    while (k < ends[i + 1] && sources[k] < from) k++;                                             \
                    for (; k < ends[i + 1] && sources[k] < to; k++) {                                             \
                        const real value = weight[k] * prior[k];                                                  \
                        loaded *into = (loaded *)(x + WIDTH * LANES * sources[k]);                                \
                        _Pragma("GCC unroll 8") for (int w = 0; w < WIDTH; w++) into[w] += value * row[w];        \
                    }                                                                                             \
                }                                                                                                 \
            }                                                                                                     \
        }                                                                                                         \
    }

BACK(1) BACK(2) BACK(4) BACK(8)
PRODUCT(1) PRODUCT(2) PRODUCT(4) PRODUCT(8)
GRADIENT(1) GRADIENT(2) GRADIENT(4) GRADIENT(8)

/* Vectors of length n, x (rows, n), of units that have neighbours: row i has the entries ends[i] … ends[i + 1] - 1, entry k
 * is of the unit others[k] and belongs to the pair pairs[k]. */

static inline real dot(int64_t n, const real *a, const real *b) {
    vector sum[4] = {{0}};
    int64_t j = 0;
    for (; j + 4 * LANES <= n; j += 4 * LANES)
        _Pragma("GCC unroll 4") for (int w = 0; w < 4; w++)
            sum[w] += *(const loaded *)(a + j + w * LANES) * *(const loaded *)(b + j + w * LANES);
    sum[0] += sum[1] + sum[2] + sum[3];
    real total = 0;
    for (int64_t lane = 0; lane < LANES; lane++) total += sum[0][lane];
    for (; j < n; j++) total += a[j] * b[j];
    return total;
}

/* norms[i] = x[i] · x[i], and products[pairs[k]] = x[i] · x[others[k]] */
void dots(int64_t rows, int64_t threads, int64_t n, const int64_t *ends, const int64_t *others, const int64_t *pairs,
          const real *x, real *norms, real *products) {
    ROWS({
        norms[i] = dot(n, x + i * n, x + i * n);
        for (int64_t k = ends[i]; k < ends[i + 1]; k++) products[pairs[k]] = dot(n, x + i * n, x + others[k] * n);
    })
}

/* y[i] = own[i] x[i] + Σ_k each[pairs[k]] x[others[k]] */
void gather(int64_t rows, int64_t threads, int64_t n, const int64_t *ends, const int64_t *others, const int64_t *pairs,
            const real *own, const real *each, const real *x, real *y) {
    ROWS({
        int64_t j = 0;
        for (; j + 8 * LANES <= n; j += 8 * LANES) {
            vector sum[8];
            const loaded *here = (const loaded *)(x + i * n + j);
            _Pragma("GCC unroll 8") for (int w = 0; w < 8; w++) sum[w] = own[i] * here[w];
            for (int64_t k = ends[i]; k < ends[i + 1]; k++) {
                const real value = each[pairs[k]];
                const loaded *from = (const loaded *)(x + others[k] * n + j);
                _Pragma("GCC unroll 8") for (int w = 0; w < 8; w++) sum[w] += value * from[w];
            }
            loaded *to = (loaded *)(y + i * n + j);
            _Pragma("GCC unroll 8") for (int w = 0; w < 8; w++) to[w] = sum[w];
        }
        for (; j < n; j++) {
            real sum = own[i] * x[i * n + j];
            for (int64_t k = ends[i]; k < ends[i + 1]; k++) sum += each[pairs[k]] * x[others[k] * n + j];
            y[i * n + j] = sum;
        }
    })
}

/* Copy a batch x (n, units), whose examples lie `step` apart, into a panel (units, width), padded with zeros. It goes one
 * cache line of x at a time: where `step` is a power of two, lines would otherwise displace each other in the cache. */
#define LINE (64 / (int64_t)sizeof(real))
#define LINES(body)                                                              \
    _Pragma("omp parallel for schedule(static) num_threads((int)threads)")       \
    for (int64_t first = 0; first < units; first += LINE) {                      \
        const int64_t here = units - first < LINE ? units - first : LINE;        \
        body                                                                     \
    }
void pack(int64_t units, int64_t threads, int64_t n, int64_t width, int64_t step, const real *x, real *panel) {
    LINES({
        real *to = panel + first * width;
        if (n < width) memset(to, 0, sizeof(real) * here * width);
        for (int64_t b = 0; b < n; b++) {
            const real *from = x + b * step + first;
            if (here == LINE)
                for (int64_t u = 0; u < LINE; u++) to[u * width + b] = from[u];
            else
                for (int64_t u = 0; u < here; u++) to[u * width + b] = from[u];
        }
    })
}

/* Copy a panel (units, width) back into n examples of x. */
void unpack(int64_t units, int64_t threads, int64_t n, int64_t width, int64_t step, const real *panel, real *x) {
    LINES({
        for (int64_t b = 0; b < n; b++) {
            real *to = x + b * step + first;
            const real *from = panel + first * width + b;
            if (here == LINE)
                for (int64_t u = 0; u < LINE; u++) to[u] = from[u * width];
            else
                for (int64_t u = 0; u < here; u++) to[u] = from[u * width];
        }
    })
}

/* out = weight ∘ P, row by row; out may be weight. P is a table of offsets in which all axes but the first are spread out:
 * table (rest, length, run), with `rest` rows for each cell of the target's first axis and `run` entries for each cell of
 * the source's. Cell y of `cells` uses the entries (cells - 1 - y) a + j b, j < sources. Rows are multiplied by scale,
 * which may be null. */
void spread(int64_t rows, int64_t threads, int64_t rest, int64_t cells, int64_t a, int64_t b, int64_t sources,
            int64_t length, int64_t run, const real *table, const real *scale, const real *weight, real *out) {
#pragma omp parallel for schedule(static) num_threads((int)threads)
    for (int64_t i = 0; i < rows; i++) {
        const real *seen = table + ((i % rest) * length + (cells - 1 - i / rest) * a) * run;
        const real factor = scale ? scale[i] : 1;
        const int64_t steps = b == 1 ? 1 : sources, entries = b == 1 ? sources * run : run;
        for (int64_t j = 0; j < steps; j++) {
            const int64_t from = i * sources * run + j * run;
            const real *p = seen + j * b * run;
            for (int64_t k = 0; k < entries; k++) out[from + k] = weight[from + k] * p[k] * factor;
        }
    }
}

/* Convolutions. Images are laid out in planes, one for each channel, with zeros between their rows, so that every tap of a
 * kernel is a fixed offset in the plane (sparse/planes.py says how). The planes of x lie x_plane numbers apart, and its
 * images x_image; those of y in the same way. Row i has the wires ends[i] … ends[i + 1] - 1, wire k comes from the channel
 * others[k], and its tap t has the weight v[k taps + t] and reads at offsets[t]. `length` is a multiple of 64 bytes. */
#ifdef __AVX512F__
#define BYTES 64
#else
#define BYTES 32
#endif
typedef real wide __attribute__((vector_size(BYTES)));
typedef real wide_loaded __attribute__((vector_size(BYTES), aligned(sizeof(real)), may_alias));
#define ACROSS ((int64_t)(BYTES / sizeof(real)))
/* how many target channels a thread takes at a time */
#define CHANNELS 16

/* N vectors of y[i] */
#define TAPS(N)                                                                                                        \
    static inline __attribute__((always_inline)) void taps_##N(                                                        \
        int64_t from, int64_t to, const int32_t *others, int64_t taps, const int64_t *offsets, const real *v,          \
        real bias, const real *x, int64_t x_plane, real *y) {                                                          \
        wide sum[N];                                                                                                   \
        _Pragma("GCC unroll 8") for (int w = 0; w < N; w++) sum[w] = bias + (wide){0};                                 \
        for (int64_t k = from; k < to; k++)                                                                            \
            for (int64_t t = 0; t < taps; t++) {                                                                       \
                const wide_loaded *seen = (const wide_loaded *)(x + others[k] * x_plane + offsets[t]);                 \
                _Pragma("GCC unroll 8") for (int w = 0; w < N; w++) sum[w] += v[k * taps + t] * seen[w];               \
            }                                                                                                          \
        _Pragma("GCC unroll 8") for (int w = 0; w < N; w++) ((wide_loaded *)y)[w] = sum[w];                            \
    }
TAPS(1) TAPS(2) TAPS(4) TAPS(8)

/* y[n, i, p] = bias[i] + Σ_k Σ_t v[k, t] x[n, others[k], p + offsets[t]] for p < length; bias may be null */
void convolve(int64_t rows, int64_t threads, int64_t images, int64_t length, const int64_t *ends, const int32_t *others,
              int64_t taps, const int64_t *offsets, const real *v, const real *bias, const real *x, int64_t x_image,
              int64_t x_plane, real *y, int64_t y_image, int64_t y_plane) {
    const int64_t parts = (rows + CHANNELS - 1) / CHANNELS;
#pragma omp parallel for schedule(dynamic, 1) num_threads((int)threads)
    for (int64_t part = 0; part < images * parts; part++) {
        const int64_t n = part / parts, first = part % parts * CHANNELS;
        for (int64_t i = first; i < rows && i < first + CHANNELS; i++) {
            int64_t p = 0;
#define SPAN(N)                                                                                                  \
    for (; p + N * ACROSS <= length; p += N * ACROSS)                                                            \
        taps_##N(ends[i], ends[i + 1], others, taps, offsets, v, bias ? bias[i] : 0, x + n * x_image + p, x_plane, \
                 y + n * y_image + i * y_plane + p);
            SPAN(8) SPAN(4) SPAN(2) SPAN(1)
        }
    }
}

/* gradient[j] = Σ_n Σ_p y[n, p] x[n, p + at[j]] for N of the j */
#define DOTS(N)                                                                                                        \
    static inline __attribute__((always_inline)) void dots_##N(                                                        \
        int64_t images, int64_t length, const real *y, int64_t y_image, const real *x, int64_t x_image,                \
        const int64_t *at, real *gradient) {                                                                           \
        wide sum[N] = {0};                                                                                             \
        for (int64_t n = 0; n < images; n++)                                                                           \
            for (int64_t p = 0; p < length; p += ACROSS) {                                                             \
                const wide here = *(const wide_loaded *)(y + n * y_image + p);                                         \
                _Pragma("GCC unroll 8") for (int j = 0; j < N; j++)                                                    \
                    sum[j] += here * *(const wide_loaded *)(x + n * x_image + p + at[j]);                              \
            }                                                                                                          \
        for (int j = 0; j < N; j++) {                                                                                  \
            gradient[j] = 0;                                                                                           \
            for (int64_t lane = 0; lane < ACROSS; lane++) gradient[j] += sum[j][lane];                                 \
        }                                                                                                              \
    }
DOTS(1) DOTS(2) DOTS(4) DOTS(8)

/* gradient[k, t] = Σ_n Σ_p y[n, i, p] x[n, others[k], p + offsets[t]] for the wires k of all rows i */
void correlate(int64_t rows, int64_t threads, int64_t images, int64_t length, const int64_t *ends, const int32_t *others,
               int64_t taps, const int64_t *offsets, const real *y, int64_t y_image, int64_t y_plane, const real *x,
               int64_t x_image, int64_t x_plane, real *gradient) {
#pragma omp parallel for schedule(dynamic, 1) num_threads((int)threads)
    for (int64_t i = 0; i < rows; i++) {
        int64_t at[8], j = ends[i] * taps;
#define SOME(N)                                                                                                   \
    for (; j + N <= ends[i + 1] * taps; j += N) {                                                                 \
        for (int m = 0; m < N; m++) at[m] = others[(j + m) / taps] * x_plane + offsets[(j + m) % taps];           \
        dots_##N(images, length, y + i * y_plane, y_image, x, x_image, at, gradient + j);                         \
    }
        SOME(8) SOME(4) SOME(2) SOME(1)
    }
}
