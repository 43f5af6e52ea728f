// Tasks shared out among threads that live as long as one call.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace lnfast {

// 0 means one thread for each core.
inline int thread_count(int threads) {
    return threads > 0 ? threads : static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
}

// Call work(task) for every task in [0, tasks). Tasks are handed out one by one, so which thread runs which task is
// open: work must depend on the task alone. The first exception is thrown again here after all threads have ended.
template <class Work>
void parallel_for(std::ptrdiff_t tasks, int threads, const Work& work) {
    const std::ptrdiff_t helpers = std::min<std::ptrdiff_t>(thread_count(threads), tasks) - 1;
    std::atomic<std::ptrdiff_t> next{0};
    std::exception_ptr failure;
    std::mutex failure_lock;
    const auto run = [&] {
        try {
            for (std::ptrdiff_t task = next++; task < tasks; task = next++) work(task);
        } catch (...) {
            const std::lock_guard<std::mutex> hold(failure_lock);
            if (!failure) failure = std::current_exception();
            next = tasks;
        }
    };
    std::vector<std::thread> pool;
    pool.reserve(static_cast<std::size_t>(std::max<std::ptrdiff_t>(helpers, 0)));
    for (std::ptrdiff_t k = 0; k < helpers; ++k) {
        try {
            pool.emplace_back(run);
        } catch (const std::system_error&) {
            break;  // no more threads to be had: those that run share the rest
        }
    }
    run();
    for (std::thread& helper : pool) helper.join();
    if (failure) std::rethrow_exception(failure);
}

}  // namespace lnfast
