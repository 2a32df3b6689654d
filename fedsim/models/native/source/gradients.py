"""C source: forward and backward through a batch, as it is or clipped sequence by sequence."""

SOURCE = r"""
// For every sequence: its gradient is scaled down to an l2 norm of at most `bound`.
typedef struct { float bound; float *norms; } Clip;

// Where the tokens of each sequence are, one after another: `row[start[s]..start[s + 1]]`.
typedef struct { int64_t *start, *row; } Order;

static Order by_sequence(Trainer *t, const Batch *batch, const int64_t *first) {
    int64_t *start = room(&t->order, 8 * (batch->sequences + 1 + batch->rows));
    Order order = {start, start + batch->sequences + 1};
    memset(start, 0, 8 * (batch->sequences + 1));
    for (int64_t r = 0; r < batch->rows; r++) start[batch->sequence[r] + 1]++;
    for (int64_t s = 0; s < batch->sequences; s++) start[s + 1] += start[s];
    for (int64_t s = 0; s < batch->steps; s++)
        for (int64_t r = first[s]; r < first[s + 1]; r++)
            order.row[start[batch->sequence[r]] + s] = r;
    return order;
}

// Inner products (count x count) of the given rows, or of each one's row before (zero at first).
static const float *gram(Trainer *t, Buffer *out, const float *rows, int64_t width,
                         const int64_t *row, int64_t count, int before) {
    float *mine = floats(&t->sorted, count * width), *products = floats(out, count * count);
    for (int64_t k = 0; k < count; k++)
        if (!before || k)
            memcpy(mine + k * width, rows + row[k - before] * width, width * sizeof(float));
        else
            memset(mine, 0, width * sizeof(float));
    product(&t->work, count, count, width, 1.0f, mine, width, 1, mine, 1, width, 0, products,
            count);
    return products;
}

static double inner(const float *a, const float *b, int64_t count, double plus) {
    double sum = 0.0;
    for (int64_t k = 0; k < count; k++) sum += (double)a[k] * (b[k] + plus);
    return sum;
}

// The activations and gradients that norms are made of; all but `out_hidden` by row.
typedef struct {
    const float *x, *d_x, *gate, *recurrent_in, *middle_in, *d_middle, *out_hidden;
    int64_t recurrent_width, middle_width_in;
} Pieces;

// Squared l2 norm of one sequence's gradient, without making it: with a linear layer's inputs
// x_t and output gradients d_t it is sum over t, s of (d_t . d_s)(x_t . x_s) (Goodfellow 2015;
// over time steps as Li et al. 2022, arXiv:2110.05679, section 4.2). For a tied embedding the
// input's and the output's share overlap.
static double squared_norm(Trainer *t, const Batch *batch, const Pieces *p, const int64_t *row,
                           int64_t column, int64_t count, int64_t line,
                           const float *between) {
    Buffer *a = &t->gram, *b = &t->factors;
    const int64_t width = t->width, square = count * count;
    const float *logits = (float *)t->logits.start + column;
    const float *hidden = p->out_hidden + column * width;
    float *hidden_gram = floats(b, square);
    product(&t->work, count, count, width, 1.0f, hidden, width, 1, hidden, 1, width, 0, hidden_gram,
            count);
    double sum = inner(between, hidden_gram, square, t->output_bias ? 1.0 : 0.0);

    const float *d = gram(t, a, p->d_x, width, row, count, 0);
    for (int64_t i = 0; i < count; i++)
        for (int64_t j = 0; j < count; j++)
            if (batch->inputs[row[i]] == batch->inputs[row[j]]) sum += d[i * count + j];
    if (tied(t)) {
        // rows of p->d_x lie gathered in t->sorted after `gram`
        float *cross = floats(a, square);
        product(&t->work, count, count, width, 1.0f, hidden, width, 1, t->sorted.start, 1, width, 0,
                cross, count);
        for (int64_t i = 0; i < count; i++)
            for (int64_t j = 0; j < count; j++)
                sum += 2.0 * logits[batch->inputs[row[j]] * line + i] * cross[i * count + j];
    }

    d = gram(t, a, p->gate, t->gates, row, count, 0);
    sum += inner(d, gram(t, b, p->x, width, row, count, 0), square, 1.0);
    sum += inner(d, gram(t, b, p->recurrent_in, p->recurrent_width, row, count, 1), square, 0.0);
    d = gram(t, a, p->d_middle, width, row, count, 0);
    sum += inner(d, gram(t, b, p->middle_in, p->middle_width_in, row, count, 0), square,
                 t->middle_bias ? 1.0 : 0.0);
    return sum < 0.0 ? 0.0 : sum;  // NaN stays NaN
}

// A factor of zero removes what is not finite, too.
static void scale_rows(float *rows, int64_t count, int64_t width, const float *factor) {
    for (int64_t r = 0; r < count; r++)
        if (factor[r] == 0.0f)
            memset(rows + r * width, 0, width * sizeof(float));
        else
            for (int64_t j = 0; j < width; j++) rows[r * width + j] *= factor[r];
}

// The output layer's gradient where each token's share is scaled: d logits' (factor x hidden).
static void scaled_output_gradient(Trainer *t, float *hidden, const float *factor, int64_t count,
                                   int64_t line, Sink sink) {
    const float *logits = t->logits.start;
    scale_rows(hidden, count, t->width, factor);
    for (int64_t v = 0; v < t->words; v += BLOCK) {
        int64_t high = least(BLOCK, t->words - v);
        product(&t->work, high, t->width, count, sink.scale, logits + v * line, line, 1, hidden,
                t->width, 1, sink.add, sink.to + t->output + v * t->width, t->width);
        if (t->output_bias)
            for (int64_t i = v; i < v + high; i++) {
                float total = 0.0f;
                for (int64_t j = 0; j < count; j++) total += logits[i * line + j] * factor[j];
                float *to = sink.to + t->output_bias + i;
                *to = (sink.add ? *to : 0.0f) + sink.scale * total;
            }
    }
}

// Adds to or sets `sink`; an untied embedding's rows are always added to, see `own_gradient`.
static double gradients(Trainer *t, const float *w, const Batch *batch, float row_weight, Sink sink,
                        const Clip *clip) {
    const int64_t rows = batch->rows, width = t->width, units = t->units, gates = t->gates;
    const int64_t *first = first_rows(t, batch);
    float *x = floats(&t->x, rows * width);
    for (int64_t r = 0; r < rows; r++)
        memcpy(x + r * width, w + batch->inputs[r] * width, width * sizeof(float));
    if (batch->input_mask) multiply(x, batch->input_mask, rows * width);
    float *gate = floats(&t->gate, rows * gates);
    fill_rows(gate, rows, gates, w + t->input_bias);
    product(&t->work, rows, gates, width, 1.0f, x, width, 1, w + t->input, 1, width, 1, gate,
            gates);

    const int lstm = t->kind == LSTM;
    const int64_t state = t->state;
    float *hidden = lstm ? lstm_forward(t, w, batch, first) : cifg_forward(t, w, batch, first);
    float *masked = hidden;
    if (batch->hidden_mask) {
        masked = floats(&t->masked, rows * state);
        memcpy(masked, hidden, rows * state * sizeof(float));
        multiply(masked, batch->hidden_mask, rows * state);
    }
    float *projected = masked;
    if (lstm) {
        projected = floats(&t->projected, rows * width);
        fill_rows(projected, rows, width, w + t->middle_bias);
        product(&t->work, rows, width, units, 1.0f, masked, units, 1, w + t->middle, 1, units, 1,
                projected, width);
    }

    float *d_projected = floats(&t->d_projected, rows * width);
    Output output = {w + t->output, t->output_bias ? w + t->output_bias : NULL, projected,
                     batch->targets, rows, row_weight};
    Order order = {0};
    float *sorted = NULL, *between = NULL;
    double nats;
    if (clip) {
        // By sequence, so that a sequence's logits are columns side by side.
        order = by_sequence(t, batch, first);
        sorted = floats(&t->d_sorted, 2 * rows * width);
        float *d_sorted = sorted + rows * width;
        int64_t *targets = room(&t->sorted_targets, 8 * rows);
        for (int64_t k = 0; k < rows; k++) {
            memcpy(sorted + k * width, projected + order.row[k] * width, width * sizeof(float));
            targets[k] = batch->targets[order.row[k]];
        }
        output.hidden = sorted;
        output.targets = targets;
        int64_t squares = 0;
        for (int64_t s = 0; s < batch->sequences; s++) {
            int64_t count = order.start[s + 1] - order.start[s];
            squares += count * count;
        }
        between = floats(&t->between, squares);
        nats = output_layer(t, output, d_sorted, NULL, order.start, batch->sequences, between);
        for (int64_t k = 0; k < rows; k++)
            memcpy(d_projected + order.row[k] * width, d_sorted + k * width, width * sizeof(float));
    } else
        nats = output_in_parts(t, output, d_projected, sink);

    if (lstm) {
        float *d_hidden = floats(&t->d_state, rows * units);
        product(&t->work, rows, units, width, 1.0f, d_projected, width, 1, w + t->middle, units, 1,
                0, d_hidden, units);
        if (batch->hidden_mask) multiply(d_hidden, batch->hidden_mask, rows * units);
        lstm_backward(t, w, batch, first, d_hidden);
    } else {
        if (batch->hidden_mask) multiply(d_projected, batch->hidden_mask, rows * width);
        cifg_backward(t, w, batch, first, d_projected);
    }
    float *d_x = floats(&t->d_x, rows * width);
    product(&t->work, rows, width, gates, 1.0f, gate, gates, 1, w + t->input, width, 1, 0, d_x,
            width);
    if (batch->input_mask) multiply(d_x, batch->input_mask, rows * width);

    const float *middle_in = lstm ? masked : t->inner.start;
    if (clip) {
        Pieces pieces = {x, d_x, gate, hidden, middle_in, d_projected, sorted, state, units};
        int64_t line = round_up(rows, WIDTH);
        float *factor = floats(&t->sums, 2 * rows), *by_row = factor + rows;
        for (int64_t s = 0; s < batch->sequences; s++) {
            int64_t at = order.start[s], count = order.start[s + 1] - at;
            double norm = sqrt(squared_norm(t, batch, &pieces, order.row + at, at, count, line,
                                            between));
            between += count * count;
            clip->norms[s] = norm;
            for (int64_t k = at; k < at + count; k++)
                by_row[order.row[k]] = factor[k] =
                    !isfinite(norm) ? 0.0 : norm > clip->bound ? clip->bound / norm : 1.0;
        }
        scaled_output_gradient(t, sorted, factor, rows, line, sink);
        scale_rows(d_projected, rows, width, by_row);
        scale_rows(gate, rows, gates, by_row);
        scale_rows(d_x, rows, width, by_row);
    }

    weight_gradient(t, d_projected, width, middle_in, units, rows, sink, t->middle);
    if (lstm) add_rows(t, d_projected, rows, width, sink, t->middle_bias);
    const float *before = rows_before(t, batch, first, hidden, state);
    weight_gradient(t, gate + first[1] * gates, gates, before, state, rows - first[1], sink,
                    t->recurrent);
    weight_gradient(t, gate, gates, x, width, rows, sink, t->input);
    add_rows(t, gate, rows, gates, sink, t->input_bias);
    for (int64_t r = 0; r < rows; r++) {
        float *restrict to = sink.to + batch->inputs[r] * width;
        const float *restrict from = d_x + r * width;
        for (int64_t j = 0; j < width; j++) to[j] += sink.scale * from[j];
    }
    return nats;
}
"""
