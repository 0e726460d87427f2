// How many threads decode. One that has lost its core to another process lets all the others wait for it after every step of a
// graph. So where the threads get less time than they could use, fewer are tried, and more again later: what is a tenth faster
// stays. Speeds are compared only between steps of as many tokens.
#pragma once

#include <ctime>

struct process_clock {
#if defined(_WIN32)
    // Nothing says there what the threads were given: all of them decode.
    static double wall() { return 0; }
    static double cpu() { return 0; }
#else
    static double wall() { return seconds(CLOCK_MONOTONIC); }
    static double cpu() { return seconds(CLOCK_PROCESS_CPUTIME_ID); }  // of all threads

  private:
    static double seconds(clockid_t clock) {
        timespec time;
        clock_gettime(clock, &time);
        return time.tv_sec + 1e-9*time.tv_nsec;
    }
#endif
};

template <typename Clock = process_clock> class spare_threads {
  public:
    // With how many of `most` threads to decode the next `tokens`; `end` follows when they are decoded.
    int begin(int most, int tokens) {
        if (tokens != num_tokens) {
            num_tokens = tokens;
            leave_trial();
            restart();
        }
        if (most != num_most) {
            num_threads = num_most = most;
            before = 0;
        }
        wall_before = Clock::wall();
        cpu_before  = Clock::cpu();
        return num_threads;
    }

    void end() {
        const double now = Clock::wall();
        wall += now - wall_before;
        cpu  += Clock::cpu() - cpu_before;
        if (++steps >= STEPS && wall >= WINDOW) {
            judge(now);
            restart();
        }
    }

  private:
    static constexpr int    STEPS    = 8;     // decoded for one measurement, at least
    static constexpr double WINDOW   = 0.2;   // seconds of decoding, at least
    static constexpr double PATIENCE = 5.0;   // seconds after a trial that failed
    static constexpr double CROWDED  = 0.85;  // of the time that the threads could have had
    static constexpr double FASTER   = 0.9;   // of the time that a step took before

    int    num_tokens = 0, num_most = 1, num_threads = 1;
    int    before = 0;     // threads before the trial; 0: none is made
    int    turn = 0;       // what is tried next
    int    steps = 0;
    double wall = 0, cpu = 0, wall_before = 0, cpu_before = 0;  // seconds
    double step_before = 0, next_trial = 0;

    void judge(double now) {
        const double step = wall/steps;
        if (before == 0) {
            if (now >= next_trial) {
                step_before = step;
                begin_trial(cpu < CROWDED*wall*num_threads);
            }
        } else if (step < FASTER*step_before) {
            before = 0;  // and what follows is tried in the same direction
        } else {
            leave_trial();
            turn       = (turn + 1) % 4;
            next_trial = now + PATIENCE;
        }
    }

    void begin_trial(bool is_crowded) {
        const int others[] = {num_threads - 1, num_threads/2, num_most, num_threads + 1};
        for (int n = 0; n < 4; ++n, turn = (turn + 1) % 4) {
            const int other = others[turn];
            if (other >= 1 && other <= num_most && (other > num_threads || (other < num_threads && is_crowded))) {
                before      = num_threads;
                num_threads = other;
                return;
            }
        }
    }

    void leave_trial() {
        num_threads = before ? before : num_threads;
        before      = 0;
    }

    void restart() {
        steps = 0;
        wall = cpu = 0;
    }
};
