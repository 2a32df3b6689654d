"""C source: matrix products. A matrix is a pointer and two strides; results are row-major."""

SOURCE = r"""
// sums (rows x 16) of a[i, p] b[p, 0..16]: c = alpha sums, or c += alpha sums where `add`.
INLINE void tile(const int rows, int64_t depth, const float *a, int64_t a_row, int64_t a_col,
                 const float *b, int64_t b_row, float alpha, int add, float *c, int64_t c_row,
                 int64_t columns) {
    vec sum[MOST_ROWS][PARTS];
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int v = 0; v < PARTS; v++) sum[i][v] = (vec){0};
    for (int64_t p = 0; p < depth; p++) {
        vec line[PARTS];
#pragma GCC unroll 4
        for (int v = 0; v < PARTS; v++)
            line[v] = *(const unaligned_vec *)(b + p * b_row + v * LANES);
        const float *column = a + p * a_col;
#pragma GCC unroll 16
        for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
            for (int v = 0; v < PARTS; v++) sum[i][v] += column[i * a_row] * line[v];
    }
    if (columns == WIDTH) {
#pragma GCC unroll 16
        for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
            for (int v = 0; v < PARTS; v++) {
                unaligned_vec *out = (unaligned_vec *)(c + i * c_row + v * LANES);
                *out = add ? *out + alpha * sum[i][v] : alpha * sum[i][v];
            }
    } else {
        float part[MOST_ROWS * WIDTH];
#pragma GCC unroll 16
        for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
            for (int v = 0; v < PARTS; v++)
                *(unaligned_vec *)(part + i * WIDTH + v * LANES) = alpha * sum[i][v];
        for (int i = 0; i < rows; i++)
            for (int64_t j = 0; j < columns; j++) {
                float *out = c + i * c_row + j;
                *out = add ? *out + part[i * WIDTH + j] : part[i * WIDTH + j];
            }
    }
}

#define TILE_OF(n) \
    case n: tile(n, depth, a, a_row, a_col, b, b_row, alpha, add, c, c_row, columns); break;

static void any_tile(int rows, int64_t depth, const float *a, int64_t a_row, int64_t a_col,
                     const float *b, int64_t b_row, float alpha, int add, float *c, int64_t c_row,
                     int64_t columns) {
    switch (rows) {
        TILE_OF(1) TILE_OF(2) TILE_OF(3) TILE_OF(4) TILE_OF(5) TILE_OF(6)
#if defined(__AVX512F__)
        TILE_OF(7) TILE_OF(8) TILE_OF(9) TILE_OF(10) TILE_OF(11) TILE_OF(12)
#endif
    }
}

enum { DEPTH = 384, COLUMNS = 512 };  // of b, a block of which stays in the second-level cache

// b[p, j] as panels of 16 columns, each `depth` x 16 in one run; the last is filled up with zeros.
static void pack(const float *b, int64_t b_row, int64_t b_col, int64_t depth, int64_t columns,
                 float *out) {
    for (int64_t j = 0; j < columns; j += WIDTH, out += depth * WIDTH) {
        int64_t width = least(WIDTH, columns - j);
        const float *from = b + j * b_col;
        if (width < WIDTH) memset(out, 0, depth * WIDTH * sizeof(float));
        if (b_col == 1 && width == WIDTH)
            for (int64_t p = 0; p < depth; p++)
                memcpy(out + p * WIDTH, from + p * b_row, WIDTH * sizeof(float));
        else if (b_row == 1)
            // Eight lines at a time, so that a line of the cache is read and written once.
            for (int64_t p = 0; p < depth; p += 8)
                for (int64_t i = 0; i < width; i++)
                    for (int64_t q = p; q < least(p + 8, depth); q++)
                        out[q * WIDTH + i] = from[q + i * b_col];
        else
            for (int64_t p = 0; p < depth; p++)
                for (int64_t i = 0; i < width; i++)
                    out[p * WIDTH + i] = from[p * b_row + i * b_col];
    }
}

// a[i, p] as one panel `depth` x ROWS; missing rows are zeros.
INLINE void pack_rows(const float *a, int64_t a_row, int64_t a_col, int64_t rows, int64_t depth,
                      float *out) {
    if (rows < ROWS) memset(out, 0, depth * ROWS * sizeof(float));
    if (a_row == 1 && rows == ROWS)
        for (int64_t p = 0; p < depth; p++)
#pragma GCC unroll 16
            for (int i = 0; i < ROWS; i++) out[p * ROWS + i] = a[p * a_col + i];
    else if (a_row == 1)
        for (int64_t p = 0; p < depth; p++)
            for (int64_t i = 0; i < rows; i++) out[p * ROWS + i] = a[p * a_col + i];
    else
        for (int64_t i = 0; i < rows; i++)
            for (int64_t p = 0; p < depth; p++) out[p * ROWS + i] = a[i * a_row + p * a_col];
}

// c (rows x columns) = or += alpha a b, where b lies in panels of 16 columns: panel j starts at
// b + j * b_panel, its line p at p * b_row from there.
static void product_of_panels(int64_t rows, int64_t columns, int64_t depth, float alpha,
                              const float *a, int64_t a_row, int64_t a_col, const float *b,
                              int64_t b_panel, int64_t b_row, int add, float *c, int64_t c_row) {
    float panel[DEPTH * ROWS] __attribute__((aligned(64)));
    for (int64_t p = 0; p < depth; p += DEPTH) {
        int64_t deep = least(DEPTH, depth - p);
        for (int64_t i = 0; i < rows; i += ROWS) {
            int64_t high = least(ROWS, rows - i);
            pack_rows(a + i * a_row + p * a_col, a_row, a_col, high, deep, panel);
            for (int64_t j = 0; j < columns; j += WIDTH) {
                const float *from = b + j / WIDTH * b_panel + p * b_row;
                float *to = c + i * c_row + j;
                int64_t wide = least(WIDTH, columns - j);
                if (high == ROWS)
                    tile(ROWS, deep, panel, 1, ROWS, from, b_row, alpha, add || p, to, c_row, wide);
                else
                    any_tile(high, deep, panel, 1, ROWS, from, b_row, alpha, add || p, to, c_row,
                             wide);
            }
        }
    }
}

// c (rows x columns) = or += alpha a b.
static void product(Buffer *work, int64_t rows, int64_t columns, int64_t depth, float alpha,
                    const float *a, int64_t a_row, int64_t a_col, const float *b, int64_t b_row,
                    int64_t b_col, int add, float *c, int64_t c_row) {
    for (int64_t j = 0; j < columns; j += COLUMNS) {
        int64_t wide = least(COLUMNS, columns - j);
        float *panels = floats(work, round_up(wide, WIDTH) * least(DEPTH, depth));
        for (int64_t p = 0; p < depth; p += DEPTH) {
            int64_t deep = least(DEPTH, depth - p);
            pack(b + p * b_row + j * b_col, b_row, b_col, deep, wide, panels);
            product_of_panels(rows, wide, deep, alpha, a + p * a_col, a_row, a_col, panels,
                              deep * WIDTH, WIDTH, add || p, c + j, c_row);
        }
    }
}

// Weights that few rows are multiplied with, time step after time step: packed once.
enum { SKINNY_DEPTH = 256 };  // rows of this length stay in the first-level cache
typedef struct { float *panels; int64_t depth, columns; } Packed;

// b (depth x columns) in blocks of SKINNY_DEPTH lines, each in panels: read once, front to back.
static Packed packed(Buffer *work, const float *b, int64_t b_row, int64_t b_col, int64_t depth,
                     int64_t columns) {
    int64_t width = round_up(columns, WIDTH);
    Packed out = {floats(work, depth * width), depth, columns};
    for (int64_t p = 0; p < depth; p += SKINNY_DEPTH)
        pack(b + p * b_row, b_row, b_col, least(SKINNY_DEPTH, depth - p), columns,
             out.panels + p * width);
    return out;
}

// c (rows x columns) = or += a b, rows of a in one run each.
static void skinny(int64_t rows, const float *a, int64_t a_row, const Packed *b, int add, float *c,
                   int64_t c_row) {
    int64_t blocks = (rows + SKINNY_ROWS - 1) / SKINNY_ROWS, width = round_up(b->columns, WIDTH);
    for (int64_t p = 0; p < b->depth; p += SKINNY_DEPTH) {
        int64_t deep = least(SKINNY_DEPTH, b->depth - p);
        const float *panel = b->panels + p * width;
        for (int64_t j = 0; j < b->columns; j += WIDTH, panel += deep * WIDTH) {
            int64_t row = 0;
            for (int64_t left = blocks; left; left--) {  // blocks of nearly equal height
                int64_t high = (rows - row + left - 1) / left;
                any_tile(high, deep, a + row * a_row + p, a_row, 1, panel, WIDTH, 1.0f, add || p,
                         c + row * c_row + j, c_row, least(WIDTH, b->columns - j));
                row += high;
            }
        }
    }
}
"""
