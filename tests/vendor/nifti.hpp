// The part of NIfTI that a program needs whose studies come from one exporter: NIfTI-1, uncompressed, int16, 3D, little
// endian, an sform in mm. Any other file is refused; nothing is guessed.
#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

using Mat4 = std::array<std::array<double, 4>, 4>;

struct Refusal : std::runtime_error {
    int exit_code;
    Refusal(int code, const std::string& message) : std::runtime_error(message), exit_code(code) {}
};

inline Refusal study_refused(const std::string& message) { return {3, message}; }

struct Volume {
    std::ptrdiff_t size[3];  // z, y, x
    Mat4 affine;             // voxel-centre index (x, y, z, 1) -> RAS+ mm
    std::vector<std::int16_t> voxels;
};

template <class T>
T field(const std::vector<char>& content, std::size_t offset) {
    T value;
    std::memcpy(&value, content.data() + offset, sizeof value);
    return value;
}

// A voxel of 0.2 to 20 mm with right angles, as lnfast/geometry.py requires.
inline void check_geometry(const Mat4& affine) {
    for (std::size_t a = 0; a < 3; ++a)
        for (std::size_t b = a; b < 3; ++b) {
            double dot = 0, square_a = 0, square_b = 0;
            for (std::size_t row = 0; row < 3; ++row) {
                dot += affine[row][a] * affine[row][b];
                square_a += affine[row][a] * affine[row][a];
                square_b += affine[row][b] * affine[row][b];
            }
            if (a == b && !(square_a >= 0.2 * 0.2 && square_a <= 20.0 * 20.0))
                throw study_refused("bad-geometry: wanted voxels of 0.2 to 20 mm");
            if (a != b && !(std::fabs(dot) <= 1e-3 * std::sqrt(square_a * square_b)))
                throw study_refused("bad-geometry: the voxel axes are sheared");
        }
}

inline Volume read_nifti(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    const std::vector<char> content{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    if (!file) throw study_refused("not-found: " + path + " cannot be read");
    if (content.size() < 352 || field<std::int32_t>(content, 0) != 348 || std::memcmp(&content[344], "n+1", 4) != 0)
        throw study_refused("not-nifti: " + path + " is no little-endian, uncompressed NIfTI-1 file");
    if (field<std::int16_t>(content, 40) != 3) throw study_refused("not-3d: wanted one volume");
    if (field<std::int16_t>(content, 70) != 4) throw study_refused("unsupported-type: wanted int16");
    if (field<std::int16_t>(content, 254) < 1) throw study_refused("no-geometry: wanted an sform");
    if ((content[123] & 7) != 2) throw study_refused("damaged-header: wanted millimetres");
    if (field<float>(content, 112) < 0) throw study_refused("bad-scaling: wanted a scale above 0");

    Volume volume;
    std::size_t count = 1;
    for (std::size_t axis = 0; axis < 3; ++axis) {
        const std::int16_t size = field<std::int16_t>(content, 42 + 2 * axis);
        if (size < 2) throw study_refused("not-3d: wanted at least 2 voxels along each axis");
        volume.size[2 - axis] = size;
        count *= static_cast<std::size_t>(size);
    }
    for (std::size_t row = 0; row < 3; ++row)
        for (std::size_t column = 0; column < 4; ++column) {
            volume.affine[row][column] = static_cast<double>(field<float>(content, 280 + 16 * row + 4 * column));
            if (!std::isfinite(volume.affine[row][column]))
                throw study_refused("bad-geometry: the affine is not finite");
        }
    volume.affine[3] = {0, 0, 0, 1};
    check_geometry(volume.affine);
    const float start = field<float>(content, 108);
    if (!(start >= 352 && start <= static_cast<float>(content.size())))
        throw study_refused("damaged-header: voxels begin nowhere");
    const auto offset = static_cast<std::size_t>(start);
    if (content.size() - offset < 2 * count) throw study_refused("truncated: copy it again");
    volume.voxels.resize(count);
    std::memcpy(volume.voxels.data(), content.data() + offset, 2 * count);
    return volume;
}
