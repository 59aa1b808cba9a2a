// What AMX needs of the system and the compiler: tiles of 16 rows of 64 bytes, multiplied in one instruction.

#pragma once

#include <cstdint>

#include "bfloat16.h"
#include "instructions.h"
#include "vectors.h"

#if defined(CPU_CAPABILITY_AVX512) && defined(__linux__) && __has_include(<amxbf16intrin.h>)
#define BERTSTREAM_AMX

#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace bertstream {
namespace {

#define BERTSTREAM_AMX_TARGET __attribute__((target("amx-tile,amx-bf16,amx-int8,avx512bf16")))

constexpr int64_t kTile = 16;        // rows of a tile
constexpr int64_t kTileBytes = 1024;

// Whether this machine has it and it may be used; the system is asked to let this process use it.
inline bool has_amx() {
  static const bool found = [] {
    constexpr unsigned kBfloat16 = 1u << 22, kTiles = 1u << 24, kInt8 = 1u << 25;
    constexpr long kRequestPermission = 0x1023, kTileData = 18;  // of arch_prctl
    unsigned a, b, c, d;
    return may_use("amx") && has_bfloat16() && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & kBfloat16) &&
        (d & kTiles) && (d & kInt8) && syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  }();
  return found;
}

// GCC does not know that loading a tile reads memory: all that is to be read must have been written before.
inline void written() { asm volatile("" ::: "memory"); }

struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

// While it lives, the thread has eight tiles. Those of sums and of states, the first six, may have fewer rows than all:
// each row takes its time.
class Tiles {
 public:
  BERTSTREAM_AMX_TARGET explicit Tiles(int64_t rows = kTile) {
    TileConfig config;
    std::fill(config.rows, config.rows + 6, static_cast<uint8_t>(std::min(rows, kTile)));
    asm volatile("" ::"r"(&config) : "memory");  // GCC takes it that only the first eight bytes are read
    _tile_loadconfig(&config);
  }
  BERTSTREAM_AMX_TARGET ~Tiles() { _tile_release(); }
  Tiles(const Tiles&) = delete;
};

}  // namespace
}  // namespace bertstream

#else

namespace bertstream {
namespace {

inline bool has_amx() { return false; }

}  // namespace
}  // namespace bertstream

#endif
