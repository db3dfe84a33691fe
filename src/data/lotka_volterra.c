/* Lotka–Volterra systems: a solver by Dormand–Prince 5(4) with adaptive steps (Hairer, Nørsett, Wanner, Solving
 * Ordinary Differential Equations I, II.4–5), and a generator of random systems. Steps end exactly on the requested
 * times: no interpolation error. Not a general solver: two equations, no events, no stiffness. Invariant: V = d·prey −
 * c·ln prey + b·predator − a·ln predator is constant along a solution. */
#include "data_internal.h"

#include <math.h>

#define RELATIVE_TOLERANCE 1e-9
#define ABSOLUTE_TOLERANCE 1e-12
#define STEPS_MAX          1000000 /* tries; a period needs some hundred */

/* Coefficients of Dormand and Prince (1980), Table 5.2 of Hairer et al. The seventh stage is the next step's first. */
static const double stage[6][6] = {
    {1.0 / 5},
    {3.0 / 40, 9.0 / 40},
    {44.0 / 45, -56.0 / 15, 32.0 / 9},
    {19372.0 / 6561, -25360.0 / 2187, 64448.0 / 6561, -212.0 / 729},
    {9017.0 / 3168, -355.0 / 33, 46732.0 / 5247, 49.0 / 176, -5103.0 / 18656},
    {35.0 / 384, 0, 500.0 / 1113, 125.0 / 192, -2187.0 / 6784, 11.0 / 84},
};
/* Fifth minus fourth order weights. */
static const double error_weight[7] = {71.0 / 57600,      0,          -71.0 / 16695, 71.0 / 1920,
                                       -17253.0 / 339200, 22.0 / 525, -1.0 / 40};

static void rates(const struct lotka_volterra *system, const double state[2], double out[2]) {
    out[0] = state[0] * (system->a - system->b * state[1]);
    out[1] = state[1] * (system->d * state[0] - system->c);
}

/* One step of length h from state; k[0] holds its rates and k[6] gets those of the result. Returns the error in units
 * of the tolerance. */
static double try_step(const struct lotka_volterra *system, const double state[2], double h, double k[7][2],
                       double result[2]) {
    for (int s = 0; s < 6; s++) {
        for (int i = 0; i < 2; i++) {
            double sum = 0;
            for (int j = 0; j <= s; j++)
                sum += stage[s][j] * k[j][i];
            result[i] = state[i] + h * sum;
        }
        rates(system, result, k[s + 1]);
    }
    double norm = 0;
    for (int i = 0; i < 2; i++) {
        double difference = 0, size = fmax(fabs(state[i]), fabs(result[i]));
        for (int j = 0; j < 7; j++)
            difference += error_weight[j] * k[j][i];
        double scaled = h * difference / (ABSOLUTE_TOLERANCE + RELATIVE_TOLERANCE * size);
        norm += scaled * scaled / 2;
    }
    return sqrt(norm);
}

/* Advances state from `from` to `to`, adapting *h. Returns false when the steps run out or a value is not finite. */
static bool advance(const struct lotka_volterra *system, double from, double to, double *h, double state[2]) {
    double k[7][2], result[2], t = from;
    rates(system, state, k[0]);
    for (int tries = 0; tries < STEPS_MAX; tries++) {
        bool last = t + *h >= to - 1e-14 * fabs(to);
        double step = last ? to - t : *h;
        double error = try_step(system, state, step, k, result);
        if (!isfinite(error)) {
            *h = step / 10;
            if (!(t + *h > t)) return false;
            continue;
        }
        double factor = 0.9 * pow(fmax(error, 1e-10), -0.2);
        if (error <= 1) {
            for (int i = 0; i < 2; i++) {
                state[i] = result[i];
                k[0][i] = k[6][i];
            }
            t += step;
            /* A step cut short to meet `to` says nothing against the longer one. */
            if (!last || factor < 1) *h = step * fmin(factor, 5);
            if (last) return isfinite(state[0]) && isfinite(state[1]);
        } else {
            *h = step * fmax(factor, 0.2);
        }
    }
    return false;
}

enum lvs_status lotka_volterra_solve(const struct lotka_volterra *system, const double *time, int32_t n_time,
                                     double *values, struct lvs_error *err) {
    double state[2] = {system->prey, system->predator};
    const double rates_given[4] = {system->a, system->b, system->c, system->d};
    for (int i = 0; i < 4; i++)
        if (!(rates_given[i] >= 0 && isfinite(rates_given[i])))
            return lvs_fail(err, LVS_USAGE, "Lotka–Volterra: rate %c is %g; rates are finite and not below zero",
                            "abcd"[i], rates_given[i]);
    for (int i = 0; i < 2; i++)
        if (!(state[i] >= 0 && isfinite(state[i])))
            return lvs_fail(err, LVS_USAGE,
                            "Lotka–Volterra: a population starts at %g; it must be finite and not below 0", state[i]);
    double h = 0.01 / (system->a + system->c + system->b * state[1] + system->d * state[0] + 1e-300);
    for (int32_t t = 0; t < n_time; t++) {
        if (t > 0 && !(time[t] > time[t - 1]))
            return lvs_fail(err, LVS_USAGE, "Lotka–Volterra: time %d is %g after %g; times must rise", t, time[t],
                            time[t - 1]);
        if (t > 0 && !advance(system, time[t - 1], time[t], &h, state))
            return lvs_fail(err, LVS_USAGE, "Lotka–Volterra: no solution beyond time %g (rates %g, %g, %g, %g)",
                            time[t - 1], system->a, system->b, system->c, system->d);
        values[2 * (int64_t)t] = state[0];
        values[2 * (int64_t)t + 1] = state[1];
    }
    return LVS_OK;
}

/* ---- the generator ---- */

static double between(struct rng *rng, double low, double high) {
    return low + (high - low) * rng_uniform(rng);
}

/* Ranges that give the reference data's populations, ranges and periods. */
static struct lotka_volterra draw_system(struct rng *rng) {
    struct lotka_volterra system;
    system.a = between(rng, 0.08, 0.25);
    system.b = between(rng, 0.17, 0.45);
    system.c = between(rng, 0.09, 0.24);
    system.d = between(rng, 0.055, 0.17);
    system.prey = between(rng, 0.8, 1.2);
    system.predator = between(rng, 0.8, 1.2);
    return system;
}

/* Values of one system as float32 numbers, as a file keeps them. */
static enum lvs_status generate_one(struct series_set *set, int32_t series, double noise, int64_t seed,
                                    struct lvs_error *err) {
    struct rng rng = rng_make((uint64_t)seed, RNG_STREAM_SIMULATE);
    rng.position = (uint64_t)series << 32; /* its own stretch of the stream: depends on (seed, series) only */
    struct lotka_volterra system = draw_system(&rng);
    double *values = set->values + (int64_t)series * set->n_time * 2;
    LVS_TRY(lotka_volterra_solve(&system, set->time, set->n_time, values, err));
    for (int64_t i = 0; i < 2 * (int64_t)set->n_time; i++) {
        if (noise > 0) values[i] *= exp(noise * rng_normal(&rng));
        values[i] = (double)(float)values[i];
    }
    return LVS_OK;
}

static void name_channels(struct series_set *set) {
    lvs_copy(set->channel_name[0], sizeof set->channel_name[0], "prey");
    lvs_copy(set->channel_name[1], sizeof set->channel_name[1], "predator");
    for (int c = 0; c < 2; c++)
        lvs_copy(set->channel_unit[c], sizeof set->channel_unit[c], "population");
    lvs_copy(set->time_unit, sizeof set->time_unit, "time unit");
}

enum lvs_status lotka_volterra_generate(int32_t n_series, int32_t n_time, double time_end, double noise, int64_t seed,
                                        struct series_set *out, struct lvs_error *err) {
    *out = (struct series_set){0};
    if (n_series < 1 || n_time < SERIES_MIN_POINTS)
        return lvs_fail(err, LVS_USAGE, "simulate: %d systems of %d points; at least 1 of %d are needed", n_series,
                        n_time, SERIES_MIN_POINTS);
    if (!(time_end > 0 && time_end <= 1e6) || !(noise >= 0 && noise <= 1))
        return lvs_fail(err, LVS_USAGE,
                        "simulate: end time %g and noise %g; the end is above 0 and at most 1e6, the noise "
                        "0 to 1 (deviation of the logarithm)",
                        time_end, noise);
    LVS_TRY(series_check_sizes("simulate", (uint64_t)n_series, (uint64_t)n_time, 2, err));
    LVS_TRY(series_allocate(out, n_series, n_time, 2, err));
    for (int32_t t = 0; t < n_time; t++)
        out->time[t] = t + 1 < n_time ? t * (time_end / (n_time - 1)) : time_end;
    name_channels(out);
    enum lvs_status status = LVS_OK;
    for (int32_t s = 0; s < n_series && status == LVS_OK; s++)
        status = generate_one(out, s, noise, seed, err);
    if (status == LVS_OK)
        series_hash(out);
    else
        series_free(out);
    return status;
}
