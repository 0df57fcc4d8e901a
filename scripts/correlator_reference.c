/* Delays between two channels of time tags with two pointers: the reference that the speed of qtwin's correlators is
 * measured against. Times are int64 ps in order, each channel in a row of its own.
 *
 *   gcc -O3 -march=native -shared -fPIC correlator_reference.c -o correlator_reference.so
 */
#include <stdint.h>

/* counts[k] += pairs with low + k bin <= second - first < low + (k + 1) bin, up to high. */
void histogram(const int64_t *first, int64_t firsts, const int64_t *second, int64_t seconds, int64_t low, int64_t high,
               int64_t bin, int64_t *counts) {
    int64_t from = 0;
    for (int64_t i = 0; i < firsts; i++) {
        const int64_t begin = first[i] + low, end = first[i] + high;
        while (from < seconds && second[from] < begin) from++;
        for (int64_t j = from; j < seconds && second[j] < end; j++) counts[(second[j] - begin) / bin]++;
    }
}

/* Pairs with low <= second - first < high. */
int64_t coincidences(const int64_t *first, int64_t firsts, const int64_t *second, int64_t seconds, int64_t low,
                     int64_t high) {
    int64_t from = 0, count = 0;
    for (int64_t i = 0; i < firsts; i++) {
        const int64_t begin = first[i] + low, end = first[i] + high;
        while (from < seconds && second[from] < begin) from++;
        for (int64_t j = from; j < seconds && second[j] < end; j++) count++;
    }
    return count;
}
