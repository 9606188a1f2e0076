// ParkedShapes remembers which classes wait for room, by shape, and says which of them a freed
// worker can satisfy.
//
// Many classes (users) share a shape; a shape is tested once. The test over all shapes is a
// CapacityTree with everything negated: a request r fits free vector f exactly when (M - r) covers
// (M - f), so one search finds the shapes that fit and skips the rest.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "scheduler/core/capacity_tree.h"
#include "scheduler/core/ports.h"

namespace reeve::sched {

class ParkedShapes {
public:
    // Notes that the class waits; false when it already did.
    bool park(ClassRef cls, const ClassShape& shape);
    // Forgets the class; false when it was not parked.
    bool remove(ClassRef cls);
    bool parked(ClassRef cls) const { return cls < where_.size() && where_[cls].shape != kNoRef; }
    std::size_t parked_classes() const { return parked_; }

    // Calls take(cls) for every parked class whose request fits `free` and whose shape passes
    // match(shape), and forgets them.
    template <typename Match, typename Take>
    void take_fitting(const Resources& free, Match&& match, Take&& take);
    template <typename Visit>
    void for_each(Visit&& visit) const {
        for (const Shape& shape : shapes_) {
            for (const ClassRef cls : shape.classes) visit(cls);
        }
    }
    // Forgets every parked class, calling take(cls).
    template <typename Take>
    void take_all(Take&& take);

    // With so many shapes, those nobody is parked with are forgotten.
    static constexpr std::size_t kShapesKept = 4'096;
    std::size_t shapes() const { return shapes_.size(); }

private:
    struct Place {
        std::uint32_t shape = kNoRef;
        std::uint32_t position = 0;  // in shapes_[shape].classes
    };
    struct Shape {
        ClassShape shape;
        std::vector<ClassRef> classes;
    };

    static Resources negate(const Resources& value);
    std::optional<std::uint32_t> unused_shape();
    std::uint32_t shape_index(const ClassShape& shape);
    void empty_shape(std::uint32_t index);

    std::map<ClassShape, std::uint32_t> index_of_;
    std::vector<Shape> shapes_;
    std::vector<Place> where_;  // by class
    CapacityTree tree_;         // leaf = shape, open while it has parked classes
    std::size_t parked_ = 0;
    std::uint32_t next_looked_ = 0;
};

template <typename Match, typename Take>
void ParkedShapes::take_fitting(const Resources& free, Match&& match, Take&& take) {
    if (parked_ == 0) return;
    // `accept` collects and answers no, so the search visits every shape that fits.
    std::vector<std::uint32_t> found;
    tree_.first_fit(negate(free), [&](std::uint32_t index) {
        if (match(shapes_[index].shape)) found.push_back(index);
        return false;
    });
    for (const std::uint32_t index : found) {
        const std::vector<ClassRef> classes = shapes_[index].classes;
        empty_shape(index);
        for (const ClassRef cls : classes) take(cls);
    }
}

template <typename Take>
void ParkedShapes::take_all(Take&& take) {
    for (std::uint32_t index = 0; index < shapes_.size(); ++index) {
        if (shapes_[index].classes.empty()) continue;
        const std::vector<ClassRef> classes = shapes_[index].classes;
        empty_shape(index);
        for (const ClassRef cls : classes) take(cls);
    }
}

}  // namespace reeve::sched
