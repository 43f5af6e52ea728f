// A program without Python, as a scanner's vendor would write it: label a mask, measure its nodes and print them, with
// lnfast_ext/src and the standard library alone.
#include <cstdint>
#include <cstdio>
#include <vector>

#include "components/label.hpp"
#include "components/measure.hpp"

namespace components = lnfast::components;

int main() {
    constexpr std::ptrdiff_t depth = 6, height = 24, width = 32;
    const std::ptrdiff_t size[3] = {depth, height, width}, bytes[3] = {height * width, width, 1};

    // A tilted ellipsoid, and a bar of three voxels.
    std::vector<std::uint8_t> mask(depth * height * width, 0);
    for (int z = 0; z < depth; ++z)
        for (int y = 0; y < height; ++y)
            for (int x = 0; x < width; ++x) {
                const int u = x - 10 + (y - 9), v = y - 9 - (x - 10), w = 5 * (z - 2);
                const bool bar = z == 4 && y == 20 && x >= 26 && x < 29;
                mask[(z * height + y) * width + x] = u * u + 9 * v * v + 4 * w * w <= 200 || bar;
            }

    lnfast::core::View3<std::uint8_t> view;
    view.bind(mask.data(), size, bytes);
    const components::Components labelled(view, 26);

    const double affine[16] = {-1.25, 0, 0, 40, 0, -1.25, 0, 25, 0, 0, 6, -90, 0, 0, 0, 1};  // index (x, y, z, 1) -> mm
    std::vector<components::Node> nodes(static_cast<std::size_t>(labelled.count()));
    components::measure_nodes(labelled.runs(), affine, nodes.data(), 1);
    for (const components::Node& node : nodes)
        std::printf("%d %lld %.17g %.17g %.17g\n", node.label, static_cast<long long>(node.voxels), node.box_mm[0],
                    node.box_mm[1], node.box_mm[2]);
}
