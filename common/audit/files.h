// Whole files in and out: bounded reads of untrusted files, atomic replacement of our own.
//
// A read never blocks on a fifo and never returns more than the caller's limit. A replacement is
// tmp + write + rename, so a reader sees the old bytes or the new ones; `durable` adds the fsync of
// file and directory. Named crash points lie between any two steps (REEVE_FP, see failpoint.h).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <sys/types.h>

#include "common/base/result.h"

namespace reeve::audit {

// Errors: kNotFound, kPermissionDenied, kDataLoss (not a regular file, longer than size_max).
Result<std::string> read_file(const std::string& path, std::size_t size_max);

enum class Durable : bool { kNo, kYes };

// Atomic; makes the parent directories of `path` (0755) when they are missing.
Status replace_file(const std::string& path, std::string_view bytes, Durable durable,
                    mode_t mode = 0644);

// For a name that nobody reads yet: neither atomic nor durable, two steps fewer. What lies there is
// overwritten. kNotFound: its directory is missing.
Status write_unread_file(const std::string& path, std::string_view bytes, mode_t mode = 0644);

// kAlreadyExists when there is one; durable.
Status write_new_file(const std::string& path, std::string_view bytes, mode_t mode);

Status make_directories(const std::string& path);
// The same for a directory below `root` that will hold many files. Where the file system can, it is
// placed away from its neighbours: ext4 without a journal looks at every file that was removed
// nearby in the last minutes before it takes an inode (140 to 650 us a file beside 35, measured).
Status make_spread(const std::string& root, const std::string& path);
// Gives the memory in which the system keeps a copy of a flushed file to what is written next:
// written once and not read again, such files would drive everything else out of it. A hint.
void drop_from_cache(const std::string& path);
// Everything written below `path`'s file system is on disk when this returns (syncfs).
Status sync_file_system(const std::string& path);

std::string parent_of(const std::string& path);

}  // namespace reeve::audit
