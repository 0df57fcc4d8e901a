/* Photon walk through a layered slab: the scalar reference that the speed of qtwin's walk is measured against.
 *
 * Method: L. Wang, S. L. Jacques, L. Zheng, "MCML - Monte Carlo modeling of light transport in multi-layered
 * tissues", Comput. Methods Programs Biomed. 47, 131 (1995): a pencil beam meets the slab at normal incidence and
 * one photon at a time hops, drops and spins. Written anew from the published laws.
 *
 *   reference_walk photons seed n_above n_below  n mua mus g d  [n mua mus g d]...
 *
 * Lengths are in cm, mua and mus in 1/cm, the layers from the lit side down. One JSON object goes to stdout:
 * totals per launched photon; R_ring and T_ring hold the light that left in rings of RING cm around the beam, the
 * last ring all that left beyond. `interactions` counts scattering events and `seconds` times the loop over photons.
 *
 *   gcc -O3 -march=native -fno-math-errno reference_walk.c -o reference_walk -lm
 *
 * (The flag is for sqrt alone, which without it checks for errno: a sixth of the time. No result changes.)
 *
 * One thread, no vector code by hand. Arithmetic is in `real`: float, a tenth faster than -DREAL=double, which gives
 * the same totals within their noise. Every sum is in double. The generator is xoshiro256+ (Blackman & Vigna 2021),
 * two draws an interaction; its lowest three bits, the weak ones, are never used. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tgmath.h>
#include <time.h>

#ifndef REAL
#define REAL float
#endif
#define RINGS 100
#define RING 0.01 /* width of a ring, cm */
#define W_MIN 1e-4f /* below this weight the photon plays roulette: it goes on with one chance in ten */
#define SURVIVAL 0.1f

typedef REAL real;
typedef struct {
    uint64_t s[4];
} Rng;
/* Layers 1..count; 0 and count + 1 are the media outside, of which only n is read. */
typedef struct {
    real top, bottom, mut, mfp, albedo, n; /* mfp = 1 / mut */
    real g_plus, g_twice, g_law;           /* 1 + g, 2 g, 2 (1 - g)^2 */
} Layer;
typedef struct {
    double *absorbed, r_ring[RINGS], t_ring[RINGS], specular;
    uint64_t interactions;
} Result;

static inline uint64_t draw(Rng *rng) {
    uint64_t *s = rng->s, result = s[0] + s[3], t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = s[3] << 45 | s[3] >> 19;
    return result;
}

static inline real uniform(uint32_t bits) { /* [0, 1) from the upper 24 of 32 bits */
    return (real)(int32_t)(bits >> 8) * (real)0x1p-24;
}

/* With -DLIBM the elementary functions are libm's, as a plain program has them; without, polynomials that are faster. */
#ifdef LIBM
static inline real minus_log(uint32_t bits) { return -log(((real)bits + (real)0.5) * (real)0x1p-32); }

static inline void azimuth(uint32_t bits, real *cosine, real *sine) {
    real angle = (real)(int32_t)bits * (real)(3.14159265358979 * 0x1p-31);
    *cosine = cos(angle);
    *sine = sin(angle);
}
#else
/* -ln(xi) of xi = (bits + 1/2) / 2^32 in (0, 1], to 2e-7. With k = bits + 1/2 = 2^e m and m in [1/sqrt 2, sqrt 2),
 * -ln(xi) = (32 - e) ln 2 - ln(m), and ln(1 + t) = t P(t) with P the minimax polynomial for relative error. */
static inline real minus_log(uint32_t bits) {
    float k = (float)bits + 0.5f, m;
    int32_t i, e;
    memcpy(&i, &k, 4);
    e = (i - 0x3f3504f3) >> 23;
    i -= e << 23;
    memcpy(&m, &i, 4);
    float t = m - 1, t2 = t * t;
    float p = (0.99999995f - 0.50000365f * t) + t2 * (0.33335059f - 0.24969909f * t) +
              t2 * t2 * ((0.19900166f - 0.1725083f * t) + t2 * (0.1622258f - 0.10106893f * t));
    return (float)(32 - e) * 0.69314718f - t * p;
}

/* Cosine and sine of a uniform azimuth: sin and cos of pi v / 2 with v in [-1, 1) by minimax polynomials, to 2e-7;
 * that is the half circle with cos >= 0, and a random sign gives the other half. */
static inline void azimuth(uint32_t bits, real *cosine, real *sine) {
    real v = (real)(int32_t)(bits << 1) * (real)0x1p-31, q = v * v;
    real c = (1 - q) * ((real)0.999999815 + q * ((real)-0.233694605 + q * ((real)0.0199390914 - q * (real)8.46317e-4)));
    *sine = v * ((real)1.57079632 + q * ((real)-0.645963761 + q * ((real)0.0796899269 +
                 q * ((real)-4.6741575e-3 + q * (real)1.51678532e-4))));
    *cosine = bits >> 31 ? -c : c;
}

#endif

/* Fresnel's reflectance of unpolarised light that meets n_to from n_from at cosine c; *c_to: cosine beyond. */
static real fresnel(real n_from, real n_to, real c, real *c_to) {
    real ratio = n_from / n_to, sine2 = ratio * ratio * (1 - c * c);
    if (sine2 >= 1) return 1; /* total internal reflection */
    real b = sqrt(1 - sine2);
    real rs = (n_from * c - n_to * b) / (n_from * c + n_to * b);
    real rp = (n_from * b - n_to * c) / (n_from * b + n_to * c);
    *c_to = b;
    return (rs * rs + rp * rp) / 2;
}

static inline int ring(real x, real y) {
    real i = sqrt(x * x + y * y) * (real)(1 / RING);
    return i < RINGS - 1 ? (int)i : RINGS - 1;
}

static void walk(uint64_t photons, uint64_t seed, const Layer *layers, int count, Result *out) {
    Rng rng;
    for (int i = 0; i < 4; i++) { /* SplitMix64 spreads the seed over the state */
        uint64_t h = seed + (uint64_t)(i + 1) * 0x9e3779b97f4a7c15u;
        h = (h ^ h >> 30) * 0xbf58476d1ce4e5b9u;
        h = (h ^ h >> 27) * 0x94d049bb133111ebu;
        rng.s[i] = h ^ h >> 31;
    }
    real mirror = (layers[0].n - layers[1].n) / (layers[0].n + layers[1].n);
    real w_start = 1 - mirror * mirror;
    uint64_t interactions = 0;
    out->specular = (double)mirror * mirror;

    for (uint64_t photon = 0; photon < photons; photon++) {
        const Layer *l = layers + 1;
        real x = 0, y = 0, z = 0, ux = 0, uy = 0, uz = 1, w = w_start;
        real w_in = w; /* weight on entering the layer: what is missing on leaving it, the layer has absorbed */
        uint64_t bits = draw(&rng);
        real step = minus_log((uint32_t)(bits >> 32)); /* left to go, in mean free paths */
        for (;;) {
            real hop = step * l->mfp, z_new = z + hop * uz;
            if (z_new >= l->top && z_new <= l->bottom) {
                x += hop * ux;
                y += hop * uy;
                z = z_new;
                w *= l->albedo; /* implicit capture */
                interactions++;
                if (w < W_MIN) {
                    out->absorbed[l - layers] += w_in - w;
                    if (uniform((uint32_t)(draw(&rng) >> 32)) >= SURVIVAL) break;
                    w_in = w *= 1 / SURVIVAL;
                }
                /* Henyey-Greenstein, solved for v = 1 - cos(theta): no cancellation forward, no special g = 0. */
                bits = draw(&rng);
                real xi = uniform((uint32_t)bits), d = l->g_plus - l->g_twice * xi;
                real v = l->g_law * xi * (l->g_plus - (real)0.5 * l->g_twice * xi) / (d * d);
                real cosine = 1 - v, sine2 = v * (2 - v), p, q;
                real sine = sqrt(sine2 > 0 ? sine2 : 0);
                step = minus_log((uint32_t)(bits >> 32));
                azimuth((uint32_t)(draw(&rng) >> 32), &p, &q);
                p *= sine;
                q *= sine;
                /* Spin about u in the orthonormal frame of Duff et al. (J. Comput. Graph. Tech. 6, 1 (2017)), its sign
                 * of uz absorbed by the azimuth: no pole, one division. The norm of u stays 1 to 1e-6 in float. */
                real t = p * ux + q * uy, h = cosine - t / (1 + fabs(uz));
                ux = h * ux + p;
                uy = h * uy + q;
                uz = cosine * uz - copysign((real)1, uz) * t;
            } else {
                int down = uz > 0;
                real wall = down ? l->bottom : l->top, to_wall = (wall - z) / uz, c_to = fabs(uz);
                const Layer *next = down ? l + 1 : l - 1;
                x += to_wall * ux;
                y += to_wall * uy;
                z = wall;
                step -= to_wall * l->mut;
                step = step > 0 ? step : 0;
                if (next->n != l->n) {
                    real r = fresnel(l->n, next->n, c_to, &c_to);
                    if (uniform((uint32_t)(draw(&rng) >> 32)) < r) {
                        uz = -uz;
                        continue;
                    }
                    ux *= l->n / next->n;
                    uy *= l->n / next->n;
                    uz = down ? c_to : -c_to;
                }
                out->absorbed[l - layers] += w_in - w;
                w_in = w;
                l = next;
                if (l == layers) {
                    out->r_ring[ring(x, y)] += w;
                    break;
                }
                if (l > layers + count) {
                    out->t_ring[ring(x, y)] += w;
                    break;
                }
            }
        }
    }
    out->interactions = interactions;
}

static double print_rings(const char *name, const double *rings, double photons) { /* returns their sum */
    double total = 0;
    printf("\"%s\": [", name);
    for (int i = 0; i < RINGS; i++) {
        printf("%s%.9g", i ? ", " : "", rings[i] / photons);
        total += rings[i] / photons;
    }
    printf("], ");
    return total;
}

int main(int argc, char **argv) {
    int count = (argc - 5) / 5;
    if (count < 1 || (argc - 5) % 5) {
        fprintf(stderr, "usage: %s photons seed n_above n_below n mua mus g d [n mua mus g d]... (cm)\n", argv[0]);
        return 2;
    }
    uint64_t photons = (uint64_t)atof(argv[1]), seed = strtoull(argv[2], NULL, 10);
    Layer *layers = calloc((size_t)count + 2, sizeof *layers);
    Result result = {.absorbed = calloc((size_t)count + 2, sizeof(double))};
    if (!layers || !result.absorbed) return 1;
    layers[0].n = (real)atof(argv[3]);
    layers[count + 1].n = (real)atof(argv[4]);
    double depth = 0;
    for (int i = 1; i <= count; i++) {
        char **arg = argv + 5 * i;
        double mua = atof(arg[1]), mut = mua + atof(arg[2]), g = atof(arg[3]);
        double mfp = mut > 0 ? 1 / mut : 1e30; /* a clear layer: light flies through */
        layers[i] = (Layer){.top = (real)depth, .bottom = (real)(depth + atof(arg[4])), .mut = (real)mut,
                            .mfp = (real)mfp, .albedo = mut > 0 ? (real)(1 - mua / mut) : 0, .n = (real)atof(arg[0]),
                            .g_plus = (real)(1 + g), .g_twice = (real)(2 * g), .g_law = (real)(2 * (1 - g) * (1 - g))};
        depth += atof(arg[4]);
    }
    struct timespec start, stop;
    clock_gettime(CLOCK_MONOTONIC, &start);
    walk(photons, seed, layers, count, &result);
    clock_gettime(CLOCK_MONOTONIC, &stop);
    double seconds = (double)(stop.tv_sec - start.tv_sec) + 1e-9 * (double)(stop.tv_nsec - start.tv_nsec);
    double n = (double)photons, events = (double)result.interactions;

    printf("{");
    double rd = print_rings("R_ring", result.r_ring, n), tt = print_rings("T_ring", result.t_ring, n);
    printf("\"ring_cm\": %g, \"R_specular\": %.9g, ", RING, result.specular);
    printf("\"Rd\": %.9g, \"Tt\": %.9g, \"A\": [", rd, tt);
    for (int i = 1; i <= count; i++) printf("%s%.9g", i > 1 ? ", " : "", result.absorbed[i] / n);
    printf("], \"photons\": %.0f, \"interactions\": %.0f, \"seconds\": %.6f, \"photons_per_s\": %.6g, "
           "\"events_per_s\": %.6g}\n", n, events, seconds, n / seconds, events / seconds);
    free(layers);
    free(result.absorbed);
    return 0;
}
