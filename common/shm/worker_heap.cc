#include "common/shm/worker_heap.h"

namespace reeve::shm {

template class BasicWorkerHeap<LivePolicy>;

}  // namespace reeve::shm
