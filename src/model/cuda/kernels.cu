// What libtorch has no kernel for, or a slow one. NVRTC compiles it where it runs, without headers: half precision is converted by
// PTX, and CHANNELS, POSITIONS, FILTERS and READERS come from kernels.rs. Pictures lie one after another, row by row, a place's
// channels side by side.

typedef unsigned char Level;
typedef unsigned short Half;

__device__ float to_float(float value) { return value; }

__device__ float to_float(Half value)
{
    float converted;
    asm("cvt.f32.f16 %0, %1;" : "=f"(converted) : "h"(value));
    return converted;
}

__device__ void store(float* place, float value) { *place = value; }

__device__ void store(Half* place, float value)
{
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(*place) : "f"(value));
}

// What levels count for a place of a resized row or column: a triangle around its middle, cut at the ends.
struct Filter {
    float middle, reach, sum;
    int first, last;

    __device__ Filter(int place, int from, int to)
    {
        float scale = float(from) / to;
        middle = (place + 0.5f) * scale - 0.5f;
        reach = fmaxf(scale, 1.0f);
        first = max(int(ceilf(middle - reach)), 0);
        last = min(int(floorf(middle + reach)), from - 1);
        sum = 0.0f;
        for (int level = first; level <= last; level++)
            sum += weight(level);
    }

    __device__ float weight(int level) const { return fmaxf(1.0f - fabsf(level - middle) / reach, 0.0f); }
};

struct Colours {
    float scale[3];
    float shift[3];
};

// Frames (N, rows, columns, 3) to input (N, height, width, CHANNELS): resized, then scaled and shifted. A thread computes a pixel.
template <typename Value>
__device__ void resize(
    const Level* frames, int rows, int columns, Value* input, int height, int width, const Colours& colours)
{
    int x = blockIdx.x * blockDim.x + threadIdx.x;
    int y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= width || y >= height)
        return;
    const Level* frame = frames + size_t(blockIdx.z) * rows * columns * 3;
    Filter across(x, columns, width), down(y, rows, height);
    float sums[3] = {};
    for (int row = down.first; row <= down.last; row++) {
        const Level* pixel = frame + (size_t(row) * columns + across.first) * 3;
        float of_row[3] = {};
        for (int column = across.first; column <= across.last; column++, pixel += 3) {
            float weight = across.weight(column);
            for (int channel = 0; channel < 3; channel++)
                of_row[channel] += weight * pixel[channel];
        }
        float weight = down.weight(row);
        for (int channel = 0; channel < 3; channel++)
            sums[channel] += weight * of_row[channel];
    }
    float all = 1.0f / (across.sum * down.sum);
    Value* place = input + ((size_t(blockIdx.z) * height + y) * width + x) * CHANNELS;
    for (int channel = 0; channel < 3; channel++)
        store(place + channel, sums[channel] * all * colours.scale[channel] + colours.shift[channel]);
    store(place + 3, 0.0f);
}

// Activations (N, positions, filters) to values of each picture: the mean of each filter, sums of squares of FILTERS filters each,
// and the products of positions with columns (filters, count). The first blocks of a picture compute means and squares.
template <typename Value>
__device__ void read(
    const Value* activations, int positions, int filters, const float* columns, int count, float* values)
{
    extern __shared__ float shared[];
    const int groups = (filters + FILTERS - 1) / FILTERS;
    const Value* picture = activations + size_t(blockIdx.y) * positions * filters;
    float* of_picture = values + size_t(blockIdx.y) * (filters + groups + size_t(positions) * count);
    if (blockIdx.x < groups) {
        const int lanes = READERS / FILTERS;
        int lane = threadIdx.x / FILTERS, filter = blockIdx.x * FILTERS + threadIdx.x % FILTERS;
        float sum = 0.0f, squares = 0.0f;
        if (filter < filters) {
#pragma unroll 8
            for (int position = lane; position < positions; position += lanes) {
                float value = to_float(picture[size_t(position) * filters + filter]);
                sum += value;
                squares += value * value;
            }
        }
        shared[threadIdx.x] = sum;
        shared[READERS + threadIdx.x] = squares;
        __syncthreads();
        if (threadIdx.x < FILTERS) {
            sum = 0.0f;
            squares = 0.0f;
            for (int other = 0; other < lanes; other++) {
                sum += shared[other * FILTERS + threadIdx.x];
                squares += shared[READERS + other * FILTERS + threadIdx.x];
            }
            if (filter < filters)
                of_picture[filter] = sum / positions;
            // A warp.
            for (int distance = FILTERS / 2; distance > 0; distance /= 2)
                squares += __shfl_down_sync(0xffffffff, squares, distance);
            if (threadIdx.x == 0)
                of_picture[filters + blockIdx.x] = squares;
        }
        return;
    }
    int first = (blockIdx.x - groups) * POSITIONS;
    int here = min(POSITIONS, positions - first);
    for (int index = threadIdx.x; index < here * filters; index += READERS)
        shared[index] = to_float(picture[size_t(first) * filters + index]);
    __syncthreads();
    for (int product = threadIdx.x; product < here * count; product += READERS) {
        const float* activation = shared + product / count * filters;
        const float* weight = columns + product % count;
        // Several sums at once, for none needs to wait for the one before.
        float sums[4] = {};
        int filter = 0;
        for (; filter + 4 <= filters; filter += 4)
            for (int next = 0; next < 4; next++)
                sums[next] += activation[filter + next] * weight[(filter + next) * count];
        for (; filter < filters; filter++)
            sums[0] += activation[filter] * weight[filter * count];
        of_picture[filters + groups + size_t(first) * count + product] = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    }
}

// The largest of 3x3 places, at every second one, of half-precision numbers (N, rows, columns, 8 groups) that are positive or zero,
// which compare like integers. A thread computes 8 numbers of a place.
extern "C" __global__ void pool_half(
    const uint4* input, int rows, int columns, int groups, uint4* output, int height, int width, int count)
{
    int index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= count)
        return;
    int group = index % groups, x = index / groups % width, y = index / groups / width % height;
    const uint4* picture = input + size_t(index / groups / width / height) * rows * columns * groups;
    uint4 most = make_uint4(0, 0, 0, 0);
    for (int row = max(2 * y - 1, 0); row <= min(2 * y + 1, rows - 1); row++)
        for (int column = max(2 * x - 1, 0); column <= min(2 * x + 1, columns - 1); column++) {
            uint4 place = picture[(size_t(row) * columns + column) * groups + group];
            most.x = __vmaxs2(most.x, place.x);
            most.y = __vmaxs2(most.y, place.y);
            most.z = __vmaxs2(most.z, place.z);
            most.w = __vmaxs2(most.w, place.w);
        }
    output[index] = most;
}

extern "C" __global__ void resize_to_half(
    const Level* frames, int rows, int columns, Half* input, int height, int width, Colours colours)
{
    resize(frames, rows, columns, input, height, width, colours);
}

extern "C" __global__ void resize_to_single(
    const Level* frames, int rows, int columns, float* input, int height, int width, Colours colours)
{
    resize(frames, rows, columns, input, height, width, colours);
}

extern "C" __global__ void read_half(
    const Half* activations, int positions, int filters, const float* columns, int count, float* values)
{
    read(activations, positions, filters, columns, count, values);
}

extern "C" __global__ void read_single(
    const float* activations, int positions, int filters, const float* columns, int count, float* values)
{
    read(activations, positions, filters, columns, count, values);
}
