#include "scheduler/sim/lines.h"

#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstring>

#include <zlib.h>

namespace reeve::sim {

void LineReader::Close::operator()(gzFile_s* file) const {
    gzclose(file);
}

Result<LineReader> LineReader::open(const std::string& path) {
    LineReader reader(path);
    errno = 0;
    reader.file_.reset(gzopen(path.c_str(), "rb"));
    if (!reader.file_) return fail_errno("open " + path, errno == 0 ? ENOMEM : errno);
    gzbuffer(reader.file_.get(), 1U << 17);
    return reader;
}

Error LineReader::error(std::string_view field, std::string_view what) const {
    return Error{ErrorCode::kInvalidArgument, path_ + ": line " + std::to_string(line_number_) +
                                                  ": field " + std::string(field) + ": " +
                                                  std::string(what)};
}

Result<bool> LineReader::refill() {
    const int got = gzread(file_.get(), buffer_.data(), static_cast<unsigned>(buffer_.size()));
    int code = Z_OK;
    const char* message = gzerror(file_.get(), &code);
    if (got < 0 || (got == 0 && code == Z_BUF_ERROR)) {
        const std::string what = got < 0 ? message : "the gzip stream ends too early";
        return fail(ErrorCode::kDataLoss,
                    path_ + ": line " + std::to_string(line_number_ + 1) + ": " + what);
    }
    at_ = 0;
    end_ = static_cast<std::size_t>(got);
    return got > 0;
}

Result<bool> LineReader::next(std::string_view& line) {
    line_.clear();
    bool any = false;
    while (true) {
        if (at_ == end_) {
            REEVE_TRY_ASSIGN(const bool more, refill());
            if (!more) break;
        }
        any = true;
        const char* from = buffer_.data() + at_;
        const void* newline = std::memchr(from, '\n', end_ - at_);
        const std::size_t take =
            newline == nullptr ? end_ - at_
                               : static_cast<std::size_t>(static_cast<const char*>(newline) - from);
        if (line_.size() + take > kLineMax) {
            ++line_number_;
            return fail(ErrorCode::kInvalidArgument,
                        path_ + ": line " + std::to_string(line_number_) + ": longer than " +
                            std::to_string(kLineMax) + " bytes");
        }
        line_.append(from, take);
        at_ += take;
        if (newline != nullptr) {
            ++at_;
            break;
        }
    }
    if (!any) return false;
    ++line_number_;
    if (!line_.empty() && line_.back() == '\r') line_.pop_back();
    if (line_.find('\0') != std::string::npos) {
        return fail(ErrorCode::kInvalidArgument, path_ + ": line " + std::to_string(line_number_) +
                                                     ": a NUL byte; is this a text file?");
    }
    line = line_;
    return true;
}

Result<std::string> read_text(const std::string& path, std::size_t bytes_max) {
    errno = 0;
    gzFile file = gzopen(path.c_str(), "rb");
    if (file == nullptr) return fail_errno("open " + path, errno == 0 ? ENOMEM : errno);
    std::string text;
    std::vector<char> buffer(1U << 16);
    int got = 0;
    while ((got = gzread(file, buffer.data(), static_cast<unsigned>(buffer.size()))) > 0) {
        text.append(buffer.data(), static_cast<std::size_t>(got));
        if (text.size() > bytes_max) break;
    }
    int code = Z_OK;
    gzerror(file, &code);
    gzclose(file);
    if (got < 0 || code == Z_BUF_ERROR) {
        return fail(ErrorCode::kDataLoss, path + ": the file cannot be read to its end");
    }
    if (text.size() > bytes_max) {
        return fail(ErrorCode::kInvalidArgument,
                    path + ": larger than " + std::to_string(bytes_max) + " bytes");
    }
    return text;
}

bool parse_number(std::string_view text, double& out) {
    if (!text.empty() && text.front() == '+') text.remove_prefix(1);
    if (text.empty()) return false;
    for (const char c : text) {
        const bool part =
            (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '+' || c == 'e' || c == 'E';
        if (!part) return false;
    }
    const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), out);
    return code == std::errc{} && end == text.data() + text.size() && std::isfinite(out);
}

}  // namespace reeve::sim
