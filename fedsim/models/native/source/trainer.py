"""C source: what a local step works on: the shapes, the batch, memory kept between steps."""

SOURCE = r"""
enum { LSTM = 0, CIFG = 1 };

// Rows are time-major: `sizes[t]` sequences reach time step t, the longest first.
typedef struct {
    int64_t rows, steps, sequences;
    const int64_t *inputs, *targets, *sizes;
    const int64_t *sequence;            // of each row, in the caller's order
    const float *input_mask, *hidden_mask;  // dropout, or null
} Batch;

// Where gradients go: to[k] = or += scale x gradient.
typedef struct { float *to; float scale; int add; } Sink;

typedef struct {
    int64_t kind, words, width, units;  // V, E, H
    int64_t gates;                      // of all units: 4H, 3H
    int64_t state;                      // values a step passes on: H, E
    // Offsets of the tensors in the flat parameters; `middle` is dense (lstm) or projection.
    int64_t input, input_bias, recurrent, middle, middle_bias, output, output_bias, size;
    float *gradient;                    // see `own_gradient`; null until needed
    Buffer gradients, touched, sorted_targets, first, x, gate, cell, tanh_cell, inner, hidden,
        masked, projected, d_projected, d_inner, d_state, d_x, d_cell, before, sums,
        recurrent_weights, project_weights, logits, hidden_t, hidden_panels, d_hidden_t,
        statistics, work, sorted, d_sorted, order, between, block, gram, factors;
} Trainer;

INLINE int tied(const Trainer *t) { return t->kind == CIFG; }

static int64_t *first_rows(Trainer *t, const Batch *batch) {
    int64_t *first = room(&t->first, 8 * (batch->steps + 1));
    first[0] = 0;
    for (int64_t s = 0; s < batch->steps; s++) first[s + 1] = first[s] + batch->sizes[s];
    return first;
}

// b += scale x the sum of the rows.
static void add_rows(Trainer *t, const float *rows, int64_t count, int64_t width, Sink sink,
                     int64_t at) {
    float *restrict sum = floats(&t->sums, width);
    memset(sum, 0, width * sizeof(float));
    for (int64_t r = 0; r < count; r++)
        for (int64_t j = 0; j < width; j++) sum[j] += rows[r * width + j];
    float *restrict to = sink.to + at;
    for (int64_t j = 0; j < width; j++) to[j] = (sink.add ? to[j] : 0.0f) + sink.scale * sum[j];
}

// The gradient of a (out x in) weight: d' x over `rows` rows of d (out) and x (in).
static void weight_gradient(Trainer *t, const float *d, int64_t out, const float *x, int64_t in,
                            int64_t rows, Sink sink, int64_t at) {
    if (!rows && !sink.add) memset(sink.to + at, 0, out * in * sizeof(float));
    product(&t->work, out, in, rows, sink.scale, d, 1, out, x, in, 1, sink.add, sink.to + at, in);
}

// Rows of the previous time step for every row after the first step.
static float *rows_before(Trainer *t, const Batch *batch, const int64_t *first, const float *rows,
                          int64_t width) {
    float *before = floats(&t->before, batch->rows * width);
    for (int64_t s = 1; s < batch->steps; s++)
        memcpy(before + (first[s] - first[1]) * width, rows + first[s - 1] * width,
               batch->sizes[s] * width * sizeof(float));
    return before;
}

static void fill_rows(float *rows, int64_t count, int64_t width, const float *value) {
    for (int64_t r = 0; r < count; r++) memcpy(rows + r * width, value, width * sizeof(float));
}

static void multiply(float *restrict values, const float *restrict mask, int64_t count) {
    for (int64_t k = 0; k < count; k++) values[k] *= mask[k];
}
"""
