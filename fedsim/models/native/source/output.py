"""C source: the output layer and its cross-entropy.

Logits are kept word by token, so that sums over the vocabulary run over tokens side by side and
no product has to repack the weights.
"""

SOURCE = r"""
enum { BLOCK = 256 };           // words at a time: their logits stay in the second-level cache
enum { MOST_COLUMNS = 384 };    // tokens at a time, where their logits need not be kept

typedef struct {
    const float *weight, *bias;  // (V, E), (V) or null
    const float *hidden;         // (n, E)
    const int64_t *targets;
    int64_t count;               // n tokens
    float row_weight;            // of each token's nats in the loss
} Output;

// out (count x count) = or += the inner products of `count` columns of a (rows, line) block.
static void add_gram(const float *block, int64_t line, int64_t rows, int64_t count, int add,
                     float *out) {
    for (int64_t i = 0; i < count; i += ROWS)
        for (int64_t j = 0; j < count; j += WIDTH)
            any_tile(least(ROWS, count - i), rows, block + i, 1, line, block + j, line, 1.0f, add,
                     out + i * count + j, count, least(WIDTH, count - j));
}

// The logits' gradient of n tokens, as `logits` (V, round_up(n)), and that of `hidden` (n, E).
// Returns the summed nats. With a sink the weight's gradient goes there, block by block. With
// sequences, whose tokens are side by side, the inner products of each one's rows of that
// gradient go to `grams`, one square after another.
static double output_layer(Trainer *t, Output o, float *d_hidden, const Sink *sink,
                           const int64_t *start, int64_t sequences, float *grams) {
    const int64_t words = t->words, width = t->width, n = o.count, line = round_up(n, WIDTH);
    const int64_t blocks = (words + BLOCK - 1) / BLOCK;
    float *logits = floats(&t->logits, words * line);
    float *by_token = floats(&t->hidden_t, width * line);
    pack(o.hidden, 1, width, width, n, by_token);
    // Of each token: the largest logit so far after each block, the sum of exp(logit - largest),
    // a block's share of it, the target's logit, the logarithm of the whole sum.
    float *most = floats(&t->statistics, (blocks + 5) * line), *restrict sum = most + blocks * line,
          *restrict part = sum + line, *target = part + line, *restrict normaliser = target + line,
          *none = normaliser + line;
    for (int64_t j = 0; j < line; j++) sum[j] = 0.0f, none[j] = -1e30f;
    for (int64_t b = 0; b < blocks; b++) {
        const int64_t v = b * BLOCK, high = least(BLOCK, words - v);
        float *block = logits + v * line, *restrict now = most + b * line,
              *restrict before = b ? now - line : none;
        product_of_panels(high, n, width, 1.0f, o.weight + v * width, width, 1, by_token,
                          width * WIDTH, WIDTH, 0, block, line);
        for (int64_t j = 0; j < line; j++) now[j] = before[j], part[j] = 0.0f;
        for (int64_t i = 0; i < high; i++) {
            float *restrict row = block + i * line;
            const float bias = o.bias ? o.bias[v + i] : 0.0f;
            for (int64_t j = n; j < line; j++) row[j] = 0.0f;
            for (int64_t j = 0; j < line; j++) {
                row[j] += bias;
                now[j] = row[j] > now[j] ? row[j] : now[j];
            }
        }
        for (int64_t j = 0; j < n; j++)
            if (o.targets[j] >= v && o.targets[j] < v + high)
                target[j] = logits[o.targets[j] * line + j];
        for (int64_t i = 0; i < high; i++) {
            float *restrict row = block + i * line;
            for (int64_t j = 0; j < line; j++) part[j] += row[j] = exp_(row[j] - now[j]);
        }
        for (int64_t j = 0; j < line; j++) sum[j] = sum[j] * exp_(before[j] - now[j]) + part[j];
    }
    double nats = 0.0;
    const float *last = most + (blocks - 1) * line;
    for (int64_t j = 0; j < n; j++) {
        normaliser[j] = last[j] + logf(sum[j]);
        nats += normaliser[j] - target[j];
    }

    float *d_by_token = floats(&t->d_hidden_t, width * line);
    float *panels = NULL, *scratch = floats(&t->block, BLOCK * line);
    for (int64_t j = n; j < line; j++) part[j] = 0.0f;
    if (sink) {
        panels = floats(&t->hidden_panels, n * round_up(width, WIDTH));
        pack(o.hidden, width, 1, n, width, panels);
    }
    for (int64_t b = 0; b < blocks; b++) {
        const int64_t v = b * BLOCK, high = least(BLOCK, words - v);
        // Where nobody needs it afterwards the gradient stays in the cache.
        float *block = sink ? scratch : logits + v * line;
        for (int64_t j = 0; j < n; j++)
            part[j] = o.row_weight * exp_(most[b * line + j] - normaliser[j]);
        for (int64_t i = 0; i < high; i++) {
            const float *from = logits + (v + i) * line;
            float *row = block + i * line;
            for (int64_t j = 0; j < line; j++) row[j] = from[j] * part[j];
        }
        for (int64_t j = 0; j < n; j++)
            if (o.targets[j] >= v && o.targets[j] < v + high)
                block[(o.targets[j] - v) * line + j] -= o.row_weight;
        product_of_panels(width, n, high, 1.0f, o.weight + v * width, 1, width, block, WIDTH, line,
                          v > 0, d_by_token, line);
        float *square = grams;
        for (int64_t s = 0; s < sequences; s++) {
            int64_t count = start[s + 1] - start[s];
            add_gram(block + start[s], line, high, count, v > 0, square);
            square += count * count;
        }
        if (sink) {
            product_of_panels(high, width, n, sink->scale, block, line, 1, panels, n * WIDTH,
                              WIDTH, sink->add, sink->to + t->output + v * width, width);
            if (o.bias)
                for (int64_t i = 0; i < high; i++) {
                    float total = 0.0f;
                    for (int64_t j = 0; j < n; j++) total += block[i * line + j];
                    float *to = sink->to + t->output_bias + v + i;
                    *to = (sink->add ? *to : 0.0f) + sink->scale * total;
                }
        }
    }
    for (int64_t j = 0; j < n; j++)
        for (int64_t e = 0; e < width; e++) d_hidden[j * width + e] = d_by_token[e * line + j];
    return nats;
}

// All tokens of a batch, whatever their number: the logits of some at a time.
static double output_in_parts(Trainer *t, Output o, float *d_hidden, Sink sink) {
    double nats = 0.0;
    for (int64_t at = 0; at < o.count; at += MOST_COLUMNS) {
        Output part = o;
        part.hidden += at * t->width;
        part.targets += at;
        part.count = least(MOST_COLUMNS, o.count - at);
        nats += output_layer(t, part, d_hidden + at * t->width, &sink, NULL, 0, NULL);
        sink.add = 1;
    }
    return nats;
}
"""
