// Frames are the records inside one ledger batch: [u32 length | u64 XXH3 of payload | payload].
//
//    0        4                12              12 + length
//    +--------+----------------+----------------+--------
//    | length | XXH3(payload)  | payload        | next ...     little-endian, no padding
//    +--------+----------------+----------------+--------
//
// FrameWriter appends frames to a string it owns; FrameReader walks them and refuses, with batch
// and offset, the first byte that is not as written. A refused batch is never read further: what
// follows a damaged length cannot be trusted. Empty payloads are lawful.
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

#include <xxhash.h>

#include "common/base/assert.h"
#include "common/base/result.h"

namespace reeve::plm {

inline constexpr std::size_t kFrameHeaderBytes = 12;
inline constexpr std::size_t kKeptBytesMax = 4u << 20;
inline constexpr std::size_t kFramePayloadBytesMax = 64u << 20;

class FrameWriter {
public:
    void append(std::string_view payload) {
        std::string& out = open();
        out.append(payload);
        close();
    }

    // For a payload built in place: append to the string open() gives, then close().
    std::string& open() {
        REEVE_ASSERT(!opened_);
        opened_ = true;
        start_ = bytes_.size();
        bytes_.append(kFrameHeaderBytes, '\0');
        return bytes_;
    }
    std::string& opened() {
        REEVE_ASSERT(opened_);
        return bytes_;
    }
    std::size_t opened_bytes() const { return bytes_.size() - start_; }
    void close() {
        REEVE_ASSERT(opened_);
        opened_ = false;
        const std::size_t size = bytes_.size() - start_ - kFrameHeaderBytes;
        REEVE_ASSERT(size <= kFramePayloadBytesMax);
        const auto length = static_cast<std::uint32_t>(size);
        const std::uint64_t hash = XXH3_64bits(bytes_.data() + start_ + kFrameHeaderBytes, size);
        std::memcpy(bytes_.data() + start_, &length, sizeof length);
        std::memcpy(bytes_.data() + start_ + sizeof length, &hash, sizeof hash);
        ++count_;
    }

    // Frames that were written elsewhere.
    void append_frames(const FrameWriter& other) {
        bytes_.append(other.bytes());
        count_ += other.count();
    }

    std::string_view bytes() const {
        REEVE_ASSERT(!opened_);
        return bytes_;
    }
    std::size_t size() const { return bytes_.size(); }  // with what is being built
    std::size_t count() const { return count_; }
    bool empty() const { return bytes_.empty(); }
    void clear() {  // keeps the memory, unless it is much
        bytes_.clear();
        if (bytes_.capacity() > kKeptBytesMax) bytes_.shrink_to_fit();
        count_ = 0;
        opened_ = false;
    }

private:
    std::string bytes_;
    std::size_t start_ = 0;
    std::size_t count_ = 0;
    bool opened_ = false;
};

class FrameReader {
public:
    FrameReader(std::uint64_t batch_seq, std::string_view frames)
        : batch_seq_(batch_seq), frames_(frames) {}

    // The next payload (valid as long as the frames are), nullopt after the last one, or kDataLoss.
    Result<std::optional<std::string_view>> next() {
        if (at_ == frames_.size()) return std::optional<std::string_view>{};
        if (frames_.size() - at_ < kFrameHeaderBytes) return damaged("a cut frame header");
        std::uint32_t length = 0;
        std::uint64_t hash = 0;
        std::memcpy(&length, frames_.data() + at_, sizeof length);
        std::memcpy(&hash, frames_.data() + at_ + sizeof length, sizeof hash);
        const std::size_t left = frames_.size() - at_ - kFrameHeaderBytes;
        if (length > left) return damaged("a frame longer than its batch");
        const std::string_view payload = frames_.substr(at_ + kFrameHeaderBytes, length);
        if (XXH3_64bits(payload.data(), payload.size()) != hash) {
            return damaged("a frame whose checksum does not match");
        }
        at_ += kFrameHeaderBytes + length;
        return std::optional<std::string_view>(payload);
    }

    std::size_t offset() const { return at_; }

private:
    Result<std::optional<std::string_view>> damaged(const char* what) const {
        return fail(ErrorCode::kDataLoss, "ledger batch " + std::to_string(batch_seq_) + " holds " +
                                              what + " at offset " + std::to_string(at_));
    }

    std::uint64_t batch_seq_;
    std::string_view frames_;
    std::size_t at_ = 0;
};

}  // namespace reeve::plm
