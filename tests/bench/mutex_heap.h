// MutexHeap is what the shared heaps are measured against: a 4-ary heap behind a robust, process-
// shared pthread mutex, in the same segment. Private to the benchmarks.
#pragma once

#include <cerrno>
#include <cstdint>
#include <optional>

#include <pthread.h>

#include "common/shm/tournament_tree.h"

namespace reeve::bench {

class MutexHeap {
public:
    struct Shared {
        alignas(64) pthread_mutex_t mutex;
        alignas(64) std::uint64_t size;
    };
    static constexpr std::uint64_t bytes(std::uint64_t capacity) {
        return sizeof(Shared) + capacity * sizeof(shm::HeapEntry) + 64;
    }

    explicit MutexHeap(char* memory)
        : shared_(reinterpret_cast<Shared*>(memory)),
          items_(reinterpret_cast<shm::HeapEntry*>(memory + sizeof(Shared))) {}

    void create() {
        pthread_mutexattr_t attributes;
        pthread_mutexattr_init(&attributes);
        pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
        pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
        pthread_mutex_init(&shared_->mutex, &attributes);
        pthread_mutexattr_destroy(&attributes);
        shared_->size = 0;
    }

    // `publish` writes the slot; it runs under the lock, so plain stores do.
    template <typename Publish>
    void push(std::uint64_t key, std::uint32_t slot, Publish publish) {
        lock();
        publish();
        auto at = shared_->size++;
        while (at != 0) {
            const auto parent = (at - 1) / 4;
            if (items_[parent].key <= key) break;
            items_[at] = items_[parent];
            at = parent;
        }
        items_[at] = shm::HeapEntry{key, slot};
        pthread_mutex_unlock(&shared_->mutex);
    }

    template <typename Take>
    std::optional<shm::HeapEntry> pop(Take take) {
        lock();
        if (shared_->size == 0) {
            pthread_mutex_unlock(&shared_->mutex);
            return std::nullopt;
        }
        const auto top = items_[0];
        take(top.slot);
        const auto last = items_[--shared_->size];
        if (shared_->size != 0) sift_down(last);
        pthread_mutex_unlock(&shared_->mutex);
        return top;
    }
    void clear() { shared_->size = 0; }
    bool locked_by_somebody() {
        if (pthread_mutex_trylock(&shared_->mutex) == EBUSY) return true;
        pthread_mutex_unlock(&shared_->mutex);
        return false;
    }

private:
    void lock() {
        if (pthread_mutex_lock(&shared_->mutex) == EOWNERDEAD) {
            pthread_mutex_consistent(&shared_->mutex);
        }
    }
    void sift_down(shm::HeapEntry item) {
        const auto size = shared_->size;
        std::uint64_t at = 0;
        for (;;) {
            const auto first = at * 4 + 1;
            if (first >= size) break;
            auto smallest = first;
            const auto end = first + 4 < size ? first + 4 : size;
            for (auto child = first + 1; child < end; ++child) {
                if (items_[child].key < items_[smallest].key) smallest = child;
            }
            if (items_[smallest].key >= item.key) break;
            items_[at] = items_[smallest];
            at = smallest;
        }
        items_[at] = item;
    }

    Shared* shared_;
    shm::HeapEntry* items_;
};

}  // namespace reeve::bench
