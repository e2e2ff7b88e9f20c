// What the machine delivers right now: `probe THREADS` prints three numbers, each a median over some milliseconds.
// - The clock (GHz), by a chain of dependent additions, one a cycle.
// - Multiply-adds of eight floats per ns of the slowest core, with THREADS cores busy at once: another process on the same
//   physical core halves them.
// - The round trip (ns) of a cache line between two of the cores: threads that wait for each other pay it. 0 with one thread.

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <thread>
#include <vector>

namespace {

constexpr int kRepeats = 9;  // the first, in which threads still start, does not count

template <typename Work>
double median_ns(Work work) {
    std::array<double, kRepeats> passed{};
    for (auto& ns : passed) {
        const auto start = std::chrono::steady_clock::now();
        work();
        ns = std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - start).count();
    }
    std::sort(passed.begin() + 1, passed.end());
    return passed[(kRepeats + 1) / 2];
}

double clock_ghz() {
    constexpr int kAdditions = 1'000'000;
    uint64_t sum = 0;
    return kAdditions / median_ns([&] {
        for (int i = 0; i < kAdditions; i += 4)
            for (int k = 0; k < 4; ++k) {
                sum += 1;
                asm volatile("" : "+r"(sum));  // or the compiler would add them up beforehand
            }
    });
}

double multiply_adds_per_ns() {
    typedef float Vector __attribute__((vector_size(32)));
    constexpr int kChains = 12, kSteps = 300'000;
    Vector factor{}, term{}, sums[kChains] = {};
    factor += 0.999f, term += 0.001f;
    const double ns = median_ns([&] {
        for (int i = 0; i < kSteps; ++i)
            for (auto& sum : sums) sum = sum * factor + term;
    });
    volatile float used = 0;  // or the compiler would leave the work out
    for (const auto& sum : sums) used = used + sum[0];
    return kChains * kSteps / ns;
}

double slowest_multiply_adds_per_ns(int threads) {
    std::vector<double> rates(threads);
    std::vector<std::thread> workers;
    std::atomic<int> started{0};
    for (auto& rate : rates)
        workers.emplace_back([&] {
            for (++started; started < threads;) {}
            rate = multiply_adds_per_ns();
        });
    for (auto& worker : workers) worker.join();
    return *std::min_element(rates.begin(), rates.end());
}

double round_trip_ns() {
    constexpr int kTrips = 5'000;
    alignas(128) std::atomic<int> ball{0};
    std::thread other([&] {
        for (int i = 1; i < 2 * kTrips * kRepeats; i += 2) {
            while (ball.load(std::memory_order_acquire) != i) {}
            ball.store(i + 1, std::memory_order_release);
        }
    });
    int i = 0;
    const double ns = median_ns([&] {
        for (int trip = 0; trip < kTrips; ++trip) {
            ball.store(++i, std::memory_order_release);
            ++i;
            while (ball.load(std::memory_order_acquire) != i) {}
        }
    });
    other.join();
    return ns / kTrips;
}

}  // namespace

int main(int argc, char** argv) {
    const int threads = argc == 2 ? std::atoi(argv[1]) : 0;
    if (threads < 1) {
        std::cerr << "usage: probe THREADS\n";
        return 1;
    }
    std::cout << clock_ghz() << ' ' << slowest_multiply_adds_per_ns(threads) << ' ' << (threads > 1 ? round_trip_ns() : 0) << '\n';
}
