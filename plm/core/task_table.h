// TaskTable holds the tasks of one job by ordinal: those that left its run and have not ended.
//
// They come in rows (a window of the run), so they lie in pages of 64 ordinals, each with a bit per
// task and a bit per loose one: finding, adding and erasing are O(log pages) and, but for a page's
// first and last task, allocate nothing. Every task is loose (queued, without a slot) only if its
// owner says so. Pointers stay good until that task is erased. Not thread-safe.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "common/base/assert.h"

namespace reeve::plm {

template <typename T>
class TaskTable {
    static constexpr std::uint64_t kPageTasks = 64;

    struct Page {
        std::uint64_t number = 0;  // its first ordinal / 64
        std::uint64_t used = 0;
        std::uint64_t loose = 0;  // of `used`
        std::unique_ptr<T[]> tasks;
    };

public:
    static constexpr std::uint64_t kNone = ~std::uint64_t{0};

    bool empty() const { return pages_.empty(); }
    std::uint64_t size() const { return size_; }
    std::uint64_t loose_count() const { return loose_; }

    T* find(std::uint64_t ordinal) {
        auto* page = page_of(ordinal);
        return page != nullptr && (page->used & bit(ordinal)) != 0 ? &task(*page, ordinal)
                                                                   : nullptr;
    }
    const T* find(std::uint64_t ordinal) const {
        return const_cast<TaskTable*>(this)->find(ordinal);
    }
    bool contains(std::uint64_t ordinal) const { return find(ordinal) != nullptr; }
    // The task must be there.
    T& at(std::uint64_t ordinal) {
        T* found = find(ordinal);
        REEVE_ASSERT(found != nullptr);
        return *found;
    }

    // Adds one of a job of `count`; null when it is there already.
    T* add(std::uint64_t ordinal, std::uint64_t count, T value = {}) {
        auto at = lower_page(ordinal / kPageTasks);
        if (at == pages_.end() || at->number != ordinal / kPageTasks) {
            const auto first = ordinal / kPageTasks * kPageTasks;
            const auto room = std::min(kPageTasks, count - first);
            at = pages_.insert(at, Page{ordinal / kPageTasks, 0, 0, std::make_unique<T[]>(room)});
        }
        if ((at->used & bit(ordinal)) != 0) return nullptr;
        at->used |= bit(ordinal);
        ++size_;
        task(*at, ordinal) = std::move(value);
        return &task(*at, ordinal);
    }

    void erase(std::uint64_t ordinal) {
        const auto at = lower_page(ordinal / kPageTasks);
        if (at == pages_.end() || at->number != ordinal / kPageTasks) return;
        if ((at->used & bit(ordinal)) == 0) return;
        set_loose(ordinal, false);
        at->used &= ~bit(ordinal);
        --size_;
        if (at->used == 0) pages_.erase(at);
    }

    void set_loose(std::uint64_t ordinal, bool loose) {
        auto* page = page_of(ordinal);
        if (page == nullptr || ((page->loose & bit(ordinal)) != 0) == loose) return;
        page->loose ^= bit(ordinal);
        loose_ += loose ? 1 : ~std::uint64_t{0};
    }
    // The smallest ordinal that is loose, or kNone.
    std::uint64_t first_loose() const {
        if (loose_ == 0) return kNone;
        for (const auto& page : pages_) {
            if (page.loose != 0) return page.number * kPageTasks + lowest(page.loose);
        }
        return kNone;
    }
    // The smallest ordinal >= `from`, or kNone.
    std::uint64_t next(std::uint64_t from) const {
        auto at = lower_page(from / kPageTasks);
        for (; at != pages_.end(); ++at) {
            auto used = at->used;
            if (at->number == from / kPageTasks) used &= ~(bit(from) - 1);
            if (used != 0) return at->number * kPageTasks + lowest(used);
        }
        return kNone;
    }

    // Calls visit(ordinal, task) in order. visit may change the task but neither add nor erase.
    template <typename Visit>
    void for_each(Visit visit) {
        for (auto& page : pages_) {
            for (auto used = page.used; used != 0; used &= used - 1) {
                const auto ordinal = page.number * kPageTasks + lowest(used);
                visit(ordinal, task(page, ordinal));
            }
        }
    }
    template <typename Visit>
    void for_each(Visit visit) const {
        const_cast<TaskTable*>(this)->for_each(
            [&](std::uint64_t ordinal, const T& one) { visit(ordinal, one); });
    }
    // The ordinals of those that `wanted` takes, so that they may be changed one by one.
    template <typename Wanted>
    std::vector<std::uint64_t> ordinals(Wanted wanted) const {
        std::vector<std::uint64_t> found;
        for_each([&](std::uint64_t ordinal, const T& one) {
            if (wanted(one)) found.push_back(ordinal);
        });
        return found;
    }
    std::vector<std::uint64_t> ordinals() const {
        return ordinals([](const T&) { return true; });
    }

private:
    static std::uint64_t bit(std::uint64_t ordinal) {
        return std::uint64_t{1} << (ordinal % kPageTasks);
    }
    static std::uint64_t lowest(std::uint64_t bits) {
        return static_cast<std::uint64_t>(std::countr_zero(bits));
    }
    static T& task(Page& page, std::uint64_t ordinal) { return page.tasks[ordinal % kPageTasks]; }

    auto lower_page(std::uint64_t number) const {
        return std::lower_bound(pages_.begin(), pages_.end(), number,
                                [](const Page& page, std::uint64_t n) { return page.number < n; });
    }
    auto lower_page(std::uint64_t number) {
        return pages_.begin() + (std::as_const(*this).lower_page(number) - pages_.cbegin());
    }
    Page* page_of(std::uint64_t ordinal) {
        const auto at = lower_page(ordinal / kPageTasks);
        return at == pages_.end() || at->number != ordinal / kPageTasks ? nullptr : &*at;
    }

    std::vector<Page> pages_;  // by number, none empty
    std::uint64_t size_ = 0;
    std::uint64_t loose_ = 0;
};

}  // namespace reeve::plm
