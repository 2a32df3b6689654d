"""C source: one step of local training, and what else Python calls."""

SOURCE = r"""
Trainer *trainer_new(int64_t kind, int64_t words, int64_t width, int64_t units) {
    Trainer *t = calloc(1, sizeof(Trainer));
    int64_t gates = (kind == LSTM ? 4 : 3) * units, state = kind == LSTM ? units : width;
    t->kind = kind, t->words = words, t->width = width, t->units = units;
    t->gates = gates, t->state = state;
    t->input = words * width;
    t->input_bias = t->input + gates * width;
    t->recurrent = t->input_bias + gates;
    t->middle = t->recurrent + gates * state;
    t->size = t->middle + width * units;
    if (kind == LSTM) {
        t->middle_bias = t->size;
        t->output = t->middle_bias + width;
        t->output_bias = t->output + words * width;
        t->size = t->output_bias + words;
    }
    return t;
}

int64_t trainer_size(const Trainer *t) { return t->size; }

void trainer_free(Trainer *t) {
    Buffer *buffers = &t->gradients;
    for (Buffer *b = buffers; b <= &t->factors; b++) free(b->start);
    free(t);
}

double trainer_gradient(Trainer *t, const float *values, const Batch *batch, float row_weight,
                        float *sum) {
    return gradients(t, values, batch, row_weight, (Sink){sum, 1.0f, 1}, NULL);
}

INLINE double squares(const float *restrict values, int64_t count) {
    double sum[16] = {0}, total = 0.0;
    int64_t k = 0;
    for (; k + 16 <= count; k += 16)
        for (int i = 0; i < 16; i++) sum[i] += (double)values[k + i] * values[k + i];
    for (; k < count; k++) total += (double)values[k] * values[k];
    for (int i = 0; i < 16; i++) total += sum[i];
    return total;
}

INLINE void axpy(float *restrict to, const float *restrict from, int64_t count, float scale) {
    for (int64_t k = 0; k < count; k++) to[k] += scale * from[k];
}

// The last step's gradient goes here. It is all zeros outside what a step writes: everything, but
// of an untied embedding only the rows of words that occur, which the step clears again.
static float *own_gradient(Trainer *t) {
    if (!t->gradient) {
        t->gradient = floats(&t->gradients, t->size);
        memset(t->gradient, 0, t->size * sizeof(float));
    }
    return t->gradient;
}

// The rows of an untied embedding that a batch touches, each once.
static int64_t touched_rows(Trainer *t, const Batch *batch, int64_t *rows) {
    char *seen = room(&t->order, t->words);
    memset(seen, 0, t->words);
    int64_t count = 0;
    for (int64_t r = 0; r < batch->rows; r++) {
        const int64_t word = batch->inputs[r];
        if (!seen[word]) rows[count++] = word;
        seen[word] = 1;
    }
    return count;
}

// One step of SGD on `values`, as clients.training defines it: the gradient scaled down to
// `most_norm` (0 is no bound), plus `pull` x (values - start). Returns the batch's nats.
double trainer_step(Trainer *t, float *values, const Batch *batch, float row_weight, float lr,
                    float most_norm, float pull, const float *start) {
    if (most_norm == 0.0f && pull == 0.0f && batch->rows <= MOST_COLUMNS)
        return gradients(t, values, batch, row_weight, (Sink){values, -lr, 1}, NULL);
    float *g = own_gradient(t);
    double nats = gradients(t, values, batch, row_weight, (Sink){g, 1.0f, 0}, NULL);
    const int64_t dense = tied(t) ? 0 : t->input, width = t->width;
    int64_t *touched = room(&t->touched, 8 * batch->rows), count = 0;
    if (dense) count = touched_rows(t, batch, touched);
    float scale = 1.0f;
    if (most_norm > 0.0f) {
        double sum = squares(g + dense, t->size - dense);
        for (int64_t k = 0; k < count; k++) sum += squares(g + touched[k] * width, width);
        const double norm = sqrt(sum);
        if (!(norm <= most_norm)) scale = most_norm / norm;
    }
    if (pull != 0.0f)
        for (int64_t k = 0; k < t->size; k++) values[k] -= lr * pull * (values[k] - start[k]);
    axpy(values + dense, g + dense, t->size - dense, -lr * scale);
    for (int64_t k = 0; k < count; k++) {
        axpy(values + touched[k] * width, g + touched[k] * width, width, -lr * scale);
        memset(g + touched[k] * width, 0, width * sizeof(float));
    }
    return nats;
}

// One step of DP-SGD: values -= lr (sum of the sequences' gradients, each clipped to `bound`, plus
// `deviation` x normal deviates of (key, step)). `norms` are those before clipping. An empty batch
// makes a step of noise alone.
double trainer_private_step(Trainer *t, float *values, const Batch *batch, float row_weight,
                            float bound, float lr, float deviation, uint64_t key0, uint64_t key1,
                            uint64_t step, float *norms) {
    double nats = 0.0;
    Clip clip = {bound, norms};
    if (batch->rows) nats = gradients(t, values, batch, row_weight, (Sink){values, -lr, 1}, &clip);
    if (deviation != 0.0f) add_noise(values, t->size, -lr * deviation, key0, key1, step);
    return nats;
}

double l2_norm(const float *values, int64_t count) { return sqrt(squares(values, count)); }

// total += values x scale, rounded towards zero: `fedsim.updates.weighted` in one pass.
void add_scaled(int64_t *restrict total, const float *restrict values, int64_t count,
                double scale) {
    for (int64_t k = 0; k < count; k++) total[k] += (int64_t)((double)values[k] * scale);
}

// 0 where a product comes out as it does the long way: run once, in a process that may crash.
int self_test(void) {
    enum { M = 29, N = 37, K = 411 };
    static float a[M * K], b[K * N], c[M * N];
    for (int k = 0; k < M * K; k++) a[k] = (k * 7 % 13) * 0.125f;
    for (int k = 0; k < K * N; k++) b[k] = (k * 5 % 11) * 0.125f;
    Buffer work = {0};
    product(&work, M, N, K, 1.0f, a, K, 1, b, N, 1, 0, c, N);
    free(work.start);
    for (int i = 0; i < M; i++)
        for (int j = 0; j < N; j++) {
            float sum = 0.0f;  // multiples of 1/64 below 2^18: exact
            for (int k = 0; k < K; k++) sum += a[i * K + k] * b[k * N + j];
            if (sum != c[i * N + j]) return 1;
        }
    return fabsf(exp_(1.0f) - 2.7182818f) > 1e-6f;
}
"""
