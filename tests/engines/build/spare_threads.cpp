// Decodes on a machine of the test's own: `cores` for as many threads as the engine has and `busy` others. One line a second.
#include "spare_threads.h"

#include <cstdio>
#include <cstdlib>

struct machine {
    static inline double now = 0, used = 0;
    static double wall() { return now; }
    static double cpu() { return used; }
};

// A step takes 0.04 s of work, shared by the threads; whoever shares a core makes all of them wait at every barrier.
static void step(int threads, int cores, int busy) {
    const bool is_shared = threads + busy > cores;
    const double took = 0.04/threads*(is_shared ? 3.0 : 1.0);
    machine::now += took;
    machine::used += took*threads*(is_shared ? 0.5 : 0.97);
}

int main(int argc, char ** argv) {
    const int cores = std::atoi(argv[1]);
    spare_threads<machine> threads;
    double told = 0;
    for (int n = 2; n < argc; ++n) {  // for ten seconds each: so many others are busy
        for (const double end = machine::now + 10; machine::now < end;) {
            const int num_threads = threads.begin(cores, 1);
            step(num_threads, cores, std::atoi(argv[n]));
            threads.end();
            if (machine::now >= told + 1) {
                told += 1;
                std::printf("%d ", num_threads);
            }
        }
        std::printf("\n");
    }
}
