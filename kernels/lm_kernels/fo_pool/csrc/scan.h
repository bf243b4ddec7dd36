/* The scan over time of one tile of columns. Included once per precision, after gates.h and stored.h.
 *
 * A tile is a range of columns (b, first .. first + width). Its cells stay in the first-level cache for all steps, so
 * that each gate is read once and each result is written once. A block of BLOCK columns is vectorised; the rest of a
 * row that does not fill a block is processed in padded copies by the same code, with the same bits.
 */
struct NAME(block) {
    const REAL *z, *f, *o, *keep, *mask; /* inputs of one time step */
    const REAL *dh, *cell, *before;      /* backward: gradient of h, this cell, the one a step earlier */
    REAL *carry;                         /* forward: cell; backward: gradient of the cell */
    REAL *out[3];                        /* forward: h; backward: gradients of z, f, o */
};

static ALWAYS_INLINE void NAME(forward_block)(const struct NAME(block) *at, int output_gate, int has_keep) {
    INDEPENDENT
    for (int j = 0; j < BLOCK; j++) {
        struct NAME(gates) open = NAME(open)(at->z[j], at->f[j], output_gate ? at->o[j] : 0, output_gate);
        REAL step = has_keep ? open.f * at->keep[j] : open.f;
        REAL stay = has_keep ? 1 - step : open.f_rest;
        REAL cell = step * open.z + stay * at->carry[j];
        at->carry[j] = cell;
        at->out[0][j] = (output_gate ? open.o * cell : cell) * at->mask[j];
    }
}

static ALWAYS_INLINE void NAME(backward_block)(const struct NAME(block) *at, int output_gate, int has_keep) {
    INDEPENDENT
    for (int j = 0; j < BLOCK; j++) {
        struct NAME(gates) open = NAME(open)(at->z[j], at->f[j], output_gate ? at->o[j] : 0, output_gate);
        REAL step = has_keep ? open.f * at->keep[j] : open.f;
        REAL stay = has_keep ? 1 - step : open.f_rest;
        REAL gradient = at->dh[j] * at->mask[j];
        REAL cell = at->carry[j] + (output_gate ? gradient * open.o : gradient);
        if (output_gate) at->out[2][j] = gradient * at->cell[j] * (open.o * open.o_rest);
        at->out[0][j] = cell * step * (1 - open.z * open.z);
        at->out[1][j] = cell * (open.z - at->before[j]) * (step * open.f_rest);
        at->carry[j] = cell * stay;
    }
}

/* Load the tile's part of a (B, H) tensor, or `otherwise` if `from` is null, padded to a multiple of BLOCK. */
static ALWAYS_INLINE void NAME(load)(REAL *tile, const void *from, int64_t offset, int width, REAL otherwise) {
    for (int j = 0; j < width; j++) tile[j] = from ? ((const REAL *)from)[offset + j] : otherwise;
    for (int j = width; j % BLOCK; j++) tile[j] = otherwise;
}

static ALWAYS_INLINE const REAL *NAME(fetch_real)(const REAL *row, REAL *padded, int n) {
    if (n == BLOCK) return row;
    memcpy(padded, row, n * sizeof(REAL));
    return padded;
}

static ALWAYS_INLINE const REAL *NAME(fetch_keep)(const REAL *row, int64_t stride, REAL *padded, int n) {
    if (stride) return NAME(fetch_real)(row, padded, n);
    for (int j = 0; j < BLOCK; j++) padded[j] = *row;
    return padded;
}

static ALWAYS_INLINE void NAME(forward_tile)(const struct fo_pool_call *call, struct tile tile, int output_gate,
                                             int has_keep) {
    const int64_t hidden = call->hidden, column = tile.stream * hidden + tile.first;
    ALIGNED REAL carry[FO_POOL_MAX_TILE], mask[FO_POOL_MAX_TILE], h[BLOCK], padded[4][BLOCK] = {{0}};
    NAME(load)(carry, call->c0, tile.stream * call->c0_b + tile.first, tile.width, 0);
    NAME(load)(mask, call->out_mask, tile.stream * call->out_mask_b + tile.first, tile.width, 1);
    for (int64_t t = 0; t < call->steps; t++) {
        const STORED *gates =
            (const STORED *)call->gates + t * call->gates_t + tile.stream * call->gates_b + tile.first;
        const REAL *keep = has_keep ? (const REAL *)call->keep + t * call->keep_t + tile.stream * call->keep_b +
                                          tile.first * call->keep_h
                                    : NULL;
        const int64_t row = t * call->streams * hidden + column, ahead = t + 1 < call->steps ? call->gates_t : 0;
        for (int j = 0; j < tile.width; j += BLOCK) {
            const int n = tile.width - j < BLOCK ? tile.width - j : BLOCK;
            for (int gate = 0; gate < 2 + output_gate; gate++) NAME(prefetch)(gates + ahead + gate * hidden + j);
            struct NAME(block) at = {.mask = mask + j, .carry = carry + j, .out = {h}};
            at.z = NAME(fetch)(gates + j, padded[0], n);
            at.f = NAME(fetch)(gates + hidden + j, padded[1], n);
            if (output_gate) at.o = NAME(fetch)(gates + 2 * hidden + j, padded[2], n);
            if (has_keep) at.keep = NAME(fetch_keep)(keep + j * call->keep_h, call->keep_h, padded[3], n);
            NAME(forward_block)(&at, output_gate, has_keep);
            NAME(store)((STORED *)call->h + row + j, h, n, call->stream);
            if (call->cells) NAME(store)((STORED *)call->cells + row + j, carry + j, n, call->stream);
        }
    }
    memcpy((REAL *)call->last + column, carry, tile.width * sizeof(REAL));
}

static ALWAYS_INLINE void NAME(backward_tile)(const struct fo_pool_call *call, struct tile tile, int output_gate,
                                              int has_keep) {
    const int64_t hidden = call->hidden, column = tile.stream * hidden + tile.first;
    const int num_gates = 2 + output_gate;
    ALIGNED REAL carry[FO_POOL_MAX_TILE], mask[FO_POOL_MAX_TILE], first[FO_POOL_MAX_TILE];
    ALIGNED REAL out[3][BLOCK], zeros[BLOCK] = {0}, padded[7][BLOCK] = {{0}};
    NAME(load)(carry, call->dlast, tile.stream * call->dlast_b + tile.first, tile.width, 0);
    NAME(load)(mask, call->out_mask, tile.stream * call->out_mask_b + tile.first, tile.width, 1);
    NAME(load)(first, call->c0, tile.stream * call->c0_b + tile.first, tile.width, 0);
    for (int64_t t = call->steps - 1; t >= 0; t--) {
        const STORED *gates =
            (const STORED *)call->gates + t * call->gates_t + tile.stream * call->gates_b + tile.first;
        const REAL *keep = has_keep ? (const REAL *)call->keep + t * call->keep_t + tile.stream * call->keep_b +
                                          tile.first * call->keep_h
                                    : NULL;
        const STORED *dh = (const STORED *)call->dh + t * call->dh_t + tile.stream * call->dh_b + tile.first;
        const int64_t row_step = call->streams * hidden, row = t * row_step + column;
        const STORED *cell = (const STORED *)call->cells + row, *before = t ? cell - row_step : cell;
        STORED *dgates = (STORED *)call->dgates + num_gates * (row - tile.first) + tile.first;
        for (int j = 0; j < tile.width; j += BLOCK) {
            const int n = tile.width - j < BLOCK ? tile.width - j : BLOCK;
            if (t) {
                for (int gate = 0; gate < num_gates; gate++) NAME(prefetch)(gates - call->gates_t + gate * hidden + j);
                if (call->dh) NAME(prefetch)(dh - call->dh_t + j);
                if (t > 1) NAME(prefetch)(before - row_step + j);
            }
            struct NAME(block) at = {.mask = mask + j, .carry = carry + j, .out = {out[0], out[1], out[2]}};
            at.z = NAME(fetch)(gates + j, padded[0], n);
            at.f = NAME(fetch)(gates + hidden + j, padded[1], n);
            at.before = t ? NAME(fetch)(before + j, padded[2], n) : first + j;
            at.dh = call->dh ? NAME(fetch)(dh + j, padded[3], n) : zeros;
            if (output_gate) at.o = NAME(fetch)(gates + 2 * hidden + j, padded[4], n);
            if (output_gate) at.cell = NAME(fetch)(cell + j, padded[5], n);
            if (has_keep) at.keep = NAME(fetch_keep)(keep + j * call->keep_h, call->keep_h, padded[6], n);
            NAME(backward_block)(&at, output_gate, has_keep);
            for (int gate = 0; gate < num_gates; gate++)
                NAME(store)(dgates + gate * hidden + j, out[gate], n, call->stream);
        }
    }
    memcpy((REAL *)call->dc0 + column, carry, tile.width * sizeof(REAL));
}

/* One compiled body per combination of options, so that the inner loop has no branches. */
static ALWAYS_INLINE void NAME(work_on)(const struct fo_pool_call *call, struct tile tile) {
    const int kind = 4 * (call->backward != 0) + 2 * (call->output_gate != 0) + (call->keep != NULL);
    switch (kind) {
        case 0: NAME(forward_tile)(call, tile, 0, 0); break;
        case 1: NAME(forward_tile)(call, tile, 0, 1); break;
        case 2: NAME(forward_tile)(call, tile, 1, 0); break;
        case 3: NAME(forward_tile)(call, tile, 1, 1); break;
        case 4: NAME(backward_tile)(call, tile, 0, 0); break;
        case 5: NAME(backward_tile)(call, tile, 0, 1); break;
        case 6: NAME(backward_tile)(call, tile, 1, 0); break;
        default: NAME(backward_tile)(call, tile, 1, 1); break;
    }
}
