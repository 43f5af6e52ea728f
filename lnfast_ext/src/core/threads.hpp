// Tasks distributed among threads that live as long as one call.
//
//     Team team(threads);
//     team.each(tasks, work);      the calling thread works too; returns when all tasks are done
//     team.each(more, again);      on the same threads, which are not started again
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <exception>
#include <functional>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace lnfast::core {

// 0 means one thread for each core.
inline int thread_count(int threads) {
    return threads > 0 ? threads : static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
}

class Team {
public:
    // most_tasks: of any one call of each(); no more threads are started.
    Team(int threads, std::ptrdiff_t most_tasks) {
        const std::ptrdiff_t helpers = std::min<std::ptrdiff_t>(thread_count(threads), most_tasks) - 1;
        pool_.reserve(static_cast<std::size_t>(std::max<std::ptrdiff_t>(helpers, 0)));
        for (std::ptrdiff_t k = 0; k < helpers; ++k) {
            try {
                pool_.emplace_back([this, k] { help(static_cast<int>(k) + 1); });
            } catch (const std::system_error&) {
                break;  // the system has no more threads: those that run share the rest
            }
        }
    }

    ~Team() {
        round_.store(over, std::memory_order_release);
        for (std::thread& helper : pool_) helper.join();
    }

    Team(const Team&) = delete;
    Team& operator=(const Team&) = delete;

    int size() const { return static_cast<int>(pool_.size()) + 1; }

    // Call work(task, worker) for every task in [0, tasks), worker in [0, size()). Tasks are handed out one by one, so
    // which worker does which is undetermined: results must depend on the task alone. The first exception is rethrown
    // here, when all workers have stopped.
    void each(std::ptrdiff_t tasks, const std::function<void(std::ptrdiff_t, int)>& work) {
        work_ = &work;
        tasks_ = tasks;
        next_.store(0, std::memory_order_relaxed);
        busy_.store(static_cast<int>(pool_.size()), std::memory_order_relaxed);
        round_.fetch_add(1, std::memory_order_release);
        run(0);
        // The helpers are at their last task, or have not begun: a wait of microseconds, too short to sleep.
        while (busy_.load(std::memory_order_acquire) != 0) std::this_thread::yield();
        if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
    }

private:
    static constexpr int over = -1;

    void help(int worker) {
        for (int last = 0;;) {
            int now = round_.load(std::memory_order_acquire);
            while (now == last) {
                std::this_thread::yield();
                now = round_.load(std::memory_order_acquire);
            }
            if (now == over) return;
            last = now;
            run(worker);
            busy_.fetch_sub(1, std::memory_order_release);
        }
    }

    void run(int worker) {
        try {
            for (std::ptrdiff_t task = next_++; task < tasks_; task = next_++) (*work_)(task, worker);
        } catch (...) {
            const std::lock_guard<std::mutex> hold(failure_lock_);
            if (!failure_) failure_ = std::current_exception();
            next_ = tasks_;
        }
    }

    std::atomic<int> round_{0}, busy_{0};
    std::atomic<std::ptrdiff_t> next_{0};
    std::ptrdiff_t tasks_ = 0;
    const std::function<void(std::ptrdiff_t, int)>* work_ = nullptr;
    std::exception_ptr failure_;
    std::mutex failure_lock_;
    std::vector<std::thread> pool_;
};

}  // namespace lnfast::core
