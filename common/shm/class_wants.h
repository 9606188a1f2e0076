// Wants in a ClassEntry and labels and named resources in a WorkerSlot: lists of words as bytes,
// NUL behind each.
//
// Written before the entry is made public, by its one writer; read by anybody, who trusts nothing:
// reading stays inside the field and drops what is no sound word.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/model/wants.h"
#include "common/shm/layout.h"

namespace reeve::shm {

// False when they do not fit: then the field is empty.
bool write_labels(std::span<char> field, const std::vector<std::string>& labels);
std::vector<std::string> read_labels(std::span<const char> field);
// The same for NAME=N.
bool write_resources(std::span<char> field, const std::vector<NamedAmount>& resources);
std::vector<NamedAmount> read_resources(std::span<const char> field);

// Precondition: the PLM has checked that they fit (kLabelsWantedBytesMax, kNameBytes).
void write_wants(ClassEntry& entry, const Wants& wants);
Wants read_wants(const ClassEntry& entry);

// Labels of a worker, with the node=NAME that every one has.
std::vector<std::string> labels_of(const WorkerSlot& worker);

}  // namespace reeve::shm
