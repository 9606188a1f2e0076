#include "common/audit/log.h"

#include <algorithm>
#include <cerrno>
#include <deque>
#include <mutex>
#include <utility>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "common/audit/entry.h"
#include "common/audit/files.h"
#include "common/audit/recovery.h"
#include "common/audit/text.h"
#include "common/audit/tiles.h"
#include "common/audit/tree_writer.h"
#include "common/base/assert.h"
#include "common/base/bytes.h"
#include "common/base/failpoint.h"

namespace reeve::audit {

// Chunks are small enough for a cache and used again: a buffer that grows and is given back would
// have its pages cleared by the kernel once for every entry.
constexpr std::size_t kChunkBytes = 256 << 10;
constexpr std::size_t kSpareChunksMax = 32;
constexpr std::size_t kSpareBuffersMax = 3;
constexpr std::size_t kSpareBufferBytesMax = 4 << 20;

struct AuditLog::State {
    State(SigningKey signing_key, const LogOptions& options, Recovered recovered)
        : key(std::move(signing_key)),
          key_path(options.key_path),
          directory(options.directory),
          writer(std::move(recovered.writer)),
          synced(recovered.synced),
          appended(writer.size()),
          published(writer.size()),
          note(std::move(recovered.note)) {}
    ~State() {
        if (lock_fd >= 0) close(lock_fd);
    }
    State(const State&) = delete;
    State& operator=(const State&) = delete;

    const SigningKey key;
    const std::string key_path;
    const std::string directory;
    int lock_fd = -1;

    std::mutex publishing;          // one publisher at a time; held during file I/O
    TreeWriter writer;              // guarded by publishing
    std::uint64_t synced;           // guarded by publishing
    std::deque<std::string> taken;  // guarded by publishing: pending of before, not all hashed

    mutable std::mutex mutex;                // held briefly
    std::deque<std::string> pending;         // bundle form: u16 length and bytes per entry
    std::vector<std::string> spare;          // emptied chunks; their memory is mapped already
    std::vector<std::string> spare_buffers;  // the same of those that were taken as they were
    std::size_t pending_bytes = 0;
    std::uint64_t appended;
    std::uint64_t published;
    std::string note;
    std::string attempted;  // guarded by publishing: may lie on disk although we saw an error

    std::string checkpoint_path() const { return directory + "/checkpoint"; }
    std::string& chunk_for(std::size_t bytes);
    Status check_wanted() const;
    Status feed_writer();
    Status feed_writer(std::string& chunk);
    void keep_spare(std::string chunk);
    Status replace_checkpoint(const std::string& text);
};

namespace {

// Holds the key's file locked, so that two writers can never sign with one key.
Result<int> lock_key(const std::string& path) {
    const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return fail_errno("open " + path, errno);
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) return fd;
    const int error = errno;
    close(fd);
    if (error != EWOULDBLOCK) return fail_errno("lock " + path, error);
    return fail(ErrorCode::kFailedPrecondition,
                path + ": another process is writing this audit log; stop it first");
}

Result<SigningKey> load_or_make_key(const LogOptions& options) {
    auto key = SigningKey::load(options.key_path);
    if (key || key.error().code != ErrorCode::kNotFound) return key;
    if (access((options.directory + "/checkpoint").c_str(), F_OK) == 0) {
        return fail(ErrorCode::kFailedPrecondition,
                    options.key_path + ": the key of this audit log is gone; restore it, or move " +
                        options.directory + " away to begin a new log");
    }
    REEVE_TRY_ASSIGN(auto made, SigningKey::generate(options.origin, KeyType::kNote));
    REEVE_TRY(make_directories(parent_of(options.key_path)));
    REEVE_TRY(made.store(options.key_path));
    return made;
}

Status publish_vkey(const std::string& directory, const VerifierKey& key) {
    const std::string path = directory + "/log.vkey";
    const std::string text = key.to_string() + "\n";
    auto known = read_file(path, 4096);
    if (known && *known == text) return {};
    if (known) {
        return fail(ErrorCode::kFailedPrecondition,
                    path + ": names another key than the private key; restore the one that made " +
                        "this log");
    }
    if (known.error().code != ErrorCode::kNotFound) return fail(std::move(known).error());
    return replace_file(path, text, Durable::kYes);
}

}  // namespace

AuditLog::AuditLog(std::unique_ptr<State> state) : state_(std::move(state)) {}
AuditLog::AuditLog(AuditLog&&) noexcept = default;
AuditLog& AuditLog::operator=(AuditLog&&) noexcept = default;
AuditLog::~AuditLog() = default;

Result<AuditLog> AuditLog::open(const LogOptions& options, const EntryProvider& ledger) {
    REEVE_TRY(make_directories(options.directory));
    REEVE_TRY_ASSIGN(auto key, load_or_make_key(options));
    if (key.verifier().type != KeyType::kNote) {
        return fail(ErrorCode::kFailedPrecondition,
                    options.key_path + ": is a witness's key, not a log's");
    }
    REEVE_TRY_ASSIGN(const int lock_fd, lock_key(options.key_path));
    struct Closer {
        int fd;
        ~Closer() {
            if (fd >= 0) close(fd);
        }
    } closer{lock_fd};
    REEVE_TRY(publish_vkey(options.directory, key.verifier()));
    REEVE_TRY_ASSIGN(auto recovered, recover(options.directory, key.verifier(), ledger));
    auto state = std::make_unique<State>(std::move(key), options, std::move(recovered));
    state->lock_fd = std::exchange(closer.fd, -1);
    return AuditLog(std::move(state));
}

// Under `mutex`. An entry never lies in two chunks.
std::string& AuditLog::State::chunk_for(std::size_t bytes) {
    if (!pending.empty() && pending.back().size() + bytes <= kChunkBytes) return pending.back();
    if (spare.empty()) {
        pending.emplace_back().reserve(std::max(bytes, kChunkBytes));
    } else {
        pending.push_back(std::move(spare.back()));
        spare.pop_back();
    }
    return pending.back();
}

std::uint64_t AuditLog::append(std::span<const std::string> entries) {
    const std::lock_guard hold(state_->mutex);
    const std::uint64_t first = state_->appended;
    for (const std::string& entry : entries) {
        REEVE_ASSERT(entry.size() <= 65535);
        char length[2];
        put_big_endian(length, static_cast<std::uint16_t>(entry.size()));
        state_->chunk_for(sizeof length + entry.size()).append(length, sizeof length).append(entry);
        state_->pending_bytes += sizeof length + entry.size();
    }
    state_->appended += entries.size();
    return first;
}

std::uint64_t AuditLog::append_bundle(std::string_view bundle, std::uint64_t count) {
    const std::lock_guard hold(state_->mutex);
    const std::uint64_t first = state_->appended;
    state_->appended += count;
    state_->pending_bytes += bundle.size();
    // As many as fit into a chunk at once: one for them all would be new memory each time.
    while (!bundle.empty()) {
        auto rest = bundle;
        take_entry(rest);
        std::string& chunk = state_->chunk_for(bundle.size() - rest.size());
        const auto room = std::max(kChunkBytes, chunk.size()) - chunk.size();
        for (auto next = rest; !next.empty(); rest = next) {
            take_entry(next);
            if (bundle.size() - next.size() > room) break;
        }
        chunk.append(bundle.substr(0, bundle.size() - rest.size()));
        bundle = rest;
    }
    return first;
}

std::uint64_t AuditLog::append_buffer(std::string& bundle, std::uint64_t count) {
    if (bundle.size() < kChunkBytes) return append_bundle(bundle, count);
    const std::lock_guard hold(state_->mutex);
    const std::uint64_t first = state_->appended;
    state_->appended += count;
    state_->pending_bytes += bundle.size();
    state_->pending.push_back(std::move(bundle));
    bundle = {};
    if (!state_->spare_buffers.empty()) {
        bundle = std::move(state_->spare_buffers.back());
        state_->spare_buffers.pop_back();
    }
    return first;
}

// Moves what was appended into the tree, writing tiles on the way so that memory stays bounded.
Status AuditLog::State::feed_writer() {
    {
        const std::lock_guard hold(mutex);
        for (auto& chunk : pending) taken.push_back(std::move(chunk));
        pending.clear();
        pending_bytes = 0;
    }
    while (!taken.empty()) {
        REEVE_TRY(feed_writer(taken.front()));
        auto chunk = std::move(taken.front());
        taken.pop_front();
        keep_spare(std::move(chunk));
    }
    return {};
}

void AuditLog::State::keep_spare(std::string chunk) {
    chunk.clear();
    const bool small = chunk.capacity() <= 2 * kChunkBytes;
    const std::lock_guard hold(mutex);
    if (small && spare.size() < kSpareChunksMax) {
        spare.push_back(std::move(chunk));
    } else if (!small && chunk.capacity() <= kSpareBufferBytesMax &&
               spare_buffers.size() < kSpareBuffersMax) {
        spare_buffers.push_back(std::move(chunk));
    }
}

Status AuditLog::State::feed_writer(std::string& chunk) {
    std::string_view rest = chunk;
    Status status;
    while (!rest.empty() && status) {
        writer.append(take_entry(rest));
        if (writer.size() % TreeWriter::kBatchEntries == 0) status = writer.write_full();
    }
    if (!status) chunk.erase(0, chunk.size() - rest.size());
    return status;
}

Status AuditLog::State::replace_checkpoint(const std::string& text) {
    // Nobody else may have signed: what lies there must be what we wrote last.
    auto current = read_file(checkpoint_path(), kNoteSizeMax);
    const bool ours = current ? *current == note || *current == attempted
                              : note.empty() && current.error().code == ErrorCode::kNotFound;
    if (!ours) {
        return fail(ErrorCode::kFailedPrecondition,
                    checkpoint_path() + ": changed under us; nothing is signed until the log is " +
                        "opened again");
    }
    REEVE_FAILPOINT("audit.before_checkpoint");
    attempted = text;
    REEVE_TRY(replace_file(checkpoint_path(), text, Durable::kYes));
    REEVE_FAILPOINT("audit.after_checkpoint");
    const std::lock_guard hold(mutex);
    note = text;
    return {};
}

// Whoever removed the cell's directory does not want the log made anew below it.
Status AuditLog::State::check_wanted() const {
    if (access(key_path.c_str(), F_OK) != 0) return fail_errno("look at " + key_path, errno);
    return {};
}

Status AuditLog::advance() {
    State& state = *state_;
    const std::lock_guard one(state.publishing);
    REEVE_TRY(state.check_wanted());
    REEVE_TRY(state.feed_writer());
    return state.writer.write_full();
}

Status AuditLog::publish(const std::function<Status()>& before_signing) {
    State& state = *state_;
    const std::lock_guard one(state.publishing);
    REEVE_TRY(state.check_wanted());
    REEVE_TRY(state.feed_writer());
    REEVE_TRY(state.writer.write());
    const std::uint64_t size = state.writer.size();
    REEVE_ASSERT(size >= published_size());
    if (size == published_size() && !state.note.empty()) {
        const std::lock_guard hold(state.mutex);
        state.spare_buffers = {};  // nothing happens any more
        return {};
    }
    if (before_signing) REEVE_TRY(before_signing());
    const Checkpoint checkpoint{state.key.verifier().name, size, state.writer.root()};
    REEVE_TRY(state.replace_checkpoint(sign_checkpoint(checkpoint, state.key)));
    {
        const std::lock_guard hold(state.mutex);
        state.published = size;
    }
    state.writer.drop_superseded_partials();
    return {};
}

namespace {

// Nobody changes a full tile, and few read it again.
void drop_full_tiles(const std::string& directory, std::uint64_t from, std::uint64_t to) {
    const auto drop = [&](unsigned level, std::uint64_t first, std::uint64_t end) {
        for (auto index = first; index < end; ++index) {
            drop_from_cache(directory + "/" + TileName{level, index, kTileWidth}.path());
        }
    };
    drop(kEntryLevel, from / kTileWidth, to / kTileWidth);
    for (unsigned level = 0; level < kLevelsMax; ++level) {
        drop(level, hashes_at(from, level) / kTileWidth, hashes_at(to, level) / kTileWidth);
    }
}

}  // namespace

Result<std::uint64_t> AuditLog::sync_tiles() {
    std::uint64_t before = 0;
    std::uint64_t size = 0;
    {
        const std::lock_guard one(state_->publishing);
        before = state_->synced;
        size = published_size();
        if (size == before) return size;
        REEVE_TRY(sync_file_system(state_->directory));
        REEVE_TRY(store_synced(state_->directory, size));
        state_->synced = size;
    }
    drop_full_tiles(state_->directory, before, size);
    return size;
}

Status AuditLog::add_cosignature(const VerifierKey& witness, const std::string& line) {
    const std::lock_guard one(state_->publishing);
    REEVE_TRY_ASSIGN(auto note, parse_note(state_->note + line));
    const NoteSignature& added = note.signatures.back();
    if (added.line != line || !verify_cosignature(note.text, added, witness)) {
        return fail(ErrorCode::kInvalidArgument,
                    "cosignature of " + witness.name + ": not over the current checkpoint");
    }
    for (std::size_t i = 0; i + 1 < note.signatures.size(); ++i) {
        const NoteSignature& other = note.signatures[i];
        if (other.name == added.name && other.key_id == added.key_id) return {};
    }
    return state_->replace_checkpoint(state_->note + line);
}

std::uint64_t AuditLog::size() const {
    const std::lock_guard hold(state_->mutex);
    return state_->appended;
}

std::uint64_t AuditLog::published_size() const {
    const std::lock_guard hold(state_->mutex);
    return state_->published;
}

std::uint64_t AuditLog::unpublished_bytes() const {
    const std::lock_guard hold(state_->mutex);
    return state_->pending_bytes;
}

std::string AuditLog::checkpoint() const {
    const std::lock_guard hold(state_->mutex);
    return state_->note;
}

const VerifierKey& AuditLog::vkey() const {
    return state_->key.verifier();
}

}  // namespace reeve::audit
