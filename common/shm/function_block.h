// FunctionBlock is what a function task's slot names in the arena: handler, data, and the room its
// result is written to.
//
//   FunctionBlock | handler | data | padding to 8 | result room
//
// Written by the PLM while the slot is in `init`, but for the result: the worker writes it, and its
// size, before its CAS to ended. A result that does not fit its room goes into a file
// (result_file_path) and the size says so. The contents are untrusted: view_function() checks them.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string_view>

#include "common/shm/segment.h"

namespace reeve::shm {

inline constexpr std::size_t kHandlerNameMax = 64;
inline constexpr std::size_t kResultBytesMax = 1U << 20;
inline constexpr std::uint32_t kResultInFile = 0xFFFFFFFFU;  // FunctionBlock::result_bytes

struct FunctionBlock {
    std::uint32_t handler_bytes = 0;
    std::uint32_t data_bytes = 0;
    std::uint32_t result_room = 0;
    std::atomic<std::uint32_t> result_bytes{0};  // worker
    std::uint32_t grace_ms = 0;                  // 0: the worker's
    std::uint32_t reserved = 0;
};
static_assert(sizeof(FunctionBlock) == 24);

// How much of the result lies in shared memory: echoes and small answers do.
inline constexpr std::uint32_t result_room_for(std::size_t data_bytes) {
    constexpr std::size_t kLeast = 64;
    constexpr std::size_t kMost = 4096;
    const auto wanted = data_bytes < kLeast ? kLeast : data_bytes > kMost ? kMost : data_bytes;
    return static_cast<std::uint32_t>((wanted + 7) / 8 * 8);
}

struct FunctionView {
    FunctionBlock* block = nullptr;
    std::string_view handler;
    std::string_view data;
    char* result = nullptr;  // block->result_room bytes
};

inline std::uint64_t result_offset(std::size_t handler_bytes, std::size_t data_bytes) {
    return (sizeof(FunctionBlock) + handler_bytes + data_bytes + 7) / 8 * 8;
}
inline std::uint64_t function_block_bytes(std::size_t handler_bytes, std::size_t data_bytes) {
    return result_offset(handler_bytes, data_bytes) + result_room_for(data_bytes);
}

// `memory` has function_block_bytes() bytes and is 8-aligned.
inline void write_function(char* memory, std::string_view handler, std::string_view data,
                           std::uint32_t grace_ms) {
    auto* block = new (memory) FunctionBlock;
    block->handler_bytes = static_cast<std::uint32_t>(handler.size());
    block->data_bytes = static_cast<std::uint32_t>(data.size());
    block->result_room = result_room_for(data.size());
    block->grace_ms = grace_ms;
    char* text = memory + sizeof(FunctionBlock);
    std::memcpy(text, handler.data(), handler.size());
    std::memcpy(text + handler.size(), data.data(), data.size());
}

// nullopt when the slot's payload is not a function's, or is damaged.
inline std::optional<FunctionView> view_function(const Segment& segment, const TaskSlot& slot) {
    const auto bytes = segment.payload(slot);
    if ((slot.flags & kTaskFunction) == 0 || bytes.size() < sizeof(FunctionBlock)) {
        return std::nullopt;
    }
    char* memory = segment.arena() + slot.payload_offset;
    FunctionView view;
    view.block = reinterpret_cast<FunctionBlock*>(memory);
    const std::uint64_t handler = view.block->handler_bytes;
    const std::uint64_t data = view.block->data_bytes;
    const auto result = result_offset(handler, data);
    if (result > bytes.size() || view.block->result_room > bytes.size() - result) {
        return std::nullopt;
    }
    view.handler = {memory + sizeof(FunctionBlock), handler};
    view.data = {memory + sizeof(FunctionBlock) + handler, data};
    view.result = memory + result;
    return view;
}

// For a result that is looked at soon. Only a hint: nothing of the slot is believed.
inline void prefetch_function(const Segment& segment, const TaskSlot& slot) {
    constexpr std::uint64_t kLine = 64;
    if ((slot.flags & kTaskFunction) == 0) return;
    const auto bytes = segment.payload(slot);
    // The block, and the result of one that is small.
    for (std::uint64_t at = 0; at < 4 * kLine && at < bytes.size(); at += kLine) {
        __builtin_prefetch(bytes.data() + at);
    }
}

}  // namespace reeve::shm
