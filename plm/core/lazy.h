// Lazy<T> is a T that takes room only while it holds something: one pointer where most owners never
// need more.
//
// Reading an empty one reads a T shared by all; only edit() makes a T, and settle() gives an
// emptied one back. T needs empty(). Not thread-safe.
#pragma once

#include <memory>
#include <utility>

namespace reeve::plm {

template <typename T>
class Lazy {
public:
    const T& operator*() const { return value_ ? *value_ : none(); }
    const T* operator->() const { return &**this; }
    // What is already there may be changed in place; adding needs edit().
    T& operator*() { return value_ ? *value_ : none(); }
    T* operator->() { return &**this; }
    operator const T&() const { return **this; }  // NOLINT: it is a T, kept elsewhere

    T& edit() {
        if (!value_) value_ = std::make_unique<T>();
        return *value_;
    }
    void settle() {
        if (value_ && value_->empty()) value_.reset();
    }
    Lazy& operator=(T value) {
        edit() = std::move(value);
        settle();
        return *this;
    }

private:
    static T& none() {
        static T empty;
        return empty;
    }
    std::unique_ptr<T> value_;
};

}  // namespace reeve::plm
