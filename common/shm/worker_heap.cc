#include "common/shm/worker_heap.h"

namespace reeve::shm {

template class BasicWorkerRanks<LivePolicy>;
template class BasicWorkerHeap<LivePolicy>;

}  // namespace reeve::shm
