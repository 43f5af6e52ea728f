// A study from file to measured nodes without Python: lnfast_ext/src around OpenVINO's C++ runtime.
//
//     study MODEL.onnx STUDY.nii [key=value ...]
//
// prints one line for each node: its label, voxels, the three edges of its box, the short axis first, the short and the long
// diameter in the slice, the short axis of its ellipsoid, the mean probability and the box's centre, all in mm. The keys are
// those of card.json, which the host reads. Exit codes are those of `lnfast run`.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <map>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include <openvino/openvino.hpp>

#include "components/ellipsoid.hpp"
#include "components/label.hpp"
#include "components/means.hpp"
#include "components/measure.hpp"
#include "components/outline.hpp"
#include "grid/body_statistics.hpp"
#include "grid/resample.hpp"
#include "grid/statistics.hpp"
#include "grid/threshold.hpp"
#include "nifti.hpp"
#include "placement.hpp"

namespace components = lnfast::components;
namespace grid = lnfast::grid;
using lnfast::core::View3;

struct Settings {
    std::map<std::string, std::string> values = {
        {"threshold", "0.3"}, {"peak", "0"}, {"orientation", "LPS"}, {"normalization", "body"},
        {"slices", "resampled"},                                                 // or "kept"
        {"outline", "threshold"},                                                // or "half-maximum"
        {"floor", "-1"},      {"tissue", "0.05"},     {"ceiling", "8.7"},        // of "body"
        {"low", "0.5"},       {"high", "99.9"},                                  // of "zscore"
        {"precision", "f32"}, {"suspicious", "8"},    {"threads", "0"},          {"labels", ""},
    };

    void add(const std::string& word) {
        const std::size_t at = word.find('=');
        if (at == std::string::npos || values.count(word.substr(0, at)) == 0)
            throw Refusal(2, "bad-call: got " + word + ", wanted key=value");
        values[word.substr(0, at)] = word.substr(at + 1);
    }
    void check() const {
        std::string letters;
        for (const char letter : text("orientation"))
            letters += static_cast<char>('0' + std::min<std::size_t>(std::string("RLAPSI").find(letter), 8) / 2);
        std::sort(letters.begin(), letters.end());
        if (letters != "012") throw Refusal(2, "bad-call: wanted an orientation such as LPS");
        if (!(number("threshold") > 0 && number("threshold") < 1))
            throw Refusal(2, "bad-call: wanted a threshold between 0 and 1");
        if (!(number("peak") >= 0 && number("peak") < 1)) throw Refusal(2, "bad-call: wanted a peak from 0 to 1");
        if (text("normalization") != "body" && text("normalization") != "zscore")
            throw Refusal(2, "bad-call: wanted normalization=body or normalization=zscore");
        if (text("slices") != "resampled" && text("slices") != "kept")
            throw Refusal(2, "bad-call: wanted slices=resampled or slices=kept");
        if (text("outline") != "threshold" && text("outline") != "half-maximum")
            throw Refusal(2, "bad-call: wanted outline=threshold or outline=half-maximum");
        if (!(number("floor") < number("tissue") && number("tissue") < number("ceiling")))
            throw Refusal(2, "bad-call: wanted floor < tissue < ceiling");
        if (!(number("low") >= 0 && number("low") < number("high") && number("high") <= 100))
            throw Refusal(2, "bad-call: wanted percentiles with 0 <= low < high <= 100");
        if (!(number("suspicious") > 0)) throw Refusal(2, "bad-call: wanted millimetres above 0");
        if (!(number("threads") >= 0 && number("threads") <= 4096))
            throw Refusal(2, "bad-call: wanted 0 to 4096 threads");
    }
    const std::string& text(const char* key) const { return values.at(key); }
    double number(const char* key) const {
        try {
            return std::stod(values.at(key));
        } catch (const std::logic_error&) {
            throw Refusal(2, std::string("bad-call: wanted a number for ") + key);
        }
    }
    int threads() const { return static_cast<int>(number("threads")); }
};

// The network, compiled once; it reads and writes the runtime's own buffers.
class Network {
public:
    Network(const std::string& path, const Settings& settings) {
        ov::Core core;
        ov::AnyMap options = {ov::hint::performance_mode(ov::hint::PerformanceMode::LATENCY),
                              ov::hint::inference_precision(ov::element::Type(settings.text("precision"))),
                              ov::hint::enable_cpu_pinning(false)};
        if (settings.threads() > 0) options.insert(ov::inference_num_threads(settings.threads()));
        request_ = core.compile_model(path, "CPU", options).create_infer_request();
        const ov::Shape in = request_.get_input_tensor().get_shape(), out = request_.get_output_tensor().get_shape();
        if (in.size() != 5 || in[0] != 1 || in[1] != 1 || in != out)
            throw Refusal(4, "model-mismatch: wanted one input and one output of (1, 1, z, y, x)");
        for (std::size_t axis = 0; axis < 3; ++axis) size_[axis] = static_cast<std::ptrdiff_t>(in[2 + axis]);
    }

    View3<float> input() { return view(request_.get_input_tensor()); }
    View3<float> output() { return view(request_.get_output_tensor()); }
    void infer() { request_.infer(); }

private:
    View3<float> view(const ov::Tensor& tensor) const {
        const std::ptrdiff_t bytes[3] = {4 * size_[1] * size_[2], 4 * size_[2], 4};
        View3<float> view;
        view.bind(tensor.data<float>(), size_, bytes);
        return view;
    }

    ov::InferRequest request_;
    std::ptrdiff_t size_[3];
};

using Voxels = View3<std::int16_t>;

grid::IntensityWindow by_zscore(const Voxels& voxels, const Settings& settings) {
    const double percents[2] = {settings.number("low"), settings.number("high")};
    double ends[2];
    const grid::Percentiles requested{percents, 2, ends, true};
    const grid::Moments moments = grid::intensity_statistics(voxels, requested, settings.threads());
    if (!(moments.max > moments.min && ends[1] > ends[0] && moments.std > 0))
        throw study_refused("constant: there is nothing to see");
    return {ends[0], ends[1], moments.mean, 1.0 / moments.std};
}

grid::IntensityWindow by_body(const grid::BodyStatistics& greys, const Settings& settings) {
    const double height = greys.tissue - greys.floor, floor = settings.number("floor");
    if (!(height > 0)) throw study_refused("constant: there is nothing to see");
    const double scale = (settings.number("tissue") - floor) / height;
    return {greys.floor, greys.floor + (settings.number("ceiling") - floor) / scale, greys.floor - floor / scale,
            scale};
}

// Padding that is brighter than air becomes air where it touches the ends of rows.
void fill_padding(const Voxels& target, double value, double air) {
    for (std::ptrdiff_t z = 0; z < target.size[0]; ++z)
        for (std::ptrdiff_t y = 0; y < target.size[1]; ++y) {
            std::ptrdiff_t begin = 0, end = target.size[2];
            while (begin < end && target.at(z, y, begin) == value) ++begin;
            while (end > begin && target.at(z, y, end - 1) == value) --end;
            for (std::ptrdiff_t x = 0; x < target.size[2]; ++x)
                if (x < begin || x >= end) target.at(z, y, x) = static_cast<std::int16_t>(air);
        }
}

// The slices of the network's input or output that a study has: all of them, or the middle ones where its own are kept.
View3<float> own_slices(const View3<float>& all, std::ptrdiff_t study_slices, const Settings& settings) {
    const std::ptrdiff_t depth = settings.text("slices") == "kept" ? std::min(study_slices, all.size[0]) : all.size[0];
    return all.part((all.size[0] - depth) / 2, 0, 0, depth, all.size[1], all.size[2]);
}

// Padding in the voxels is overwritten. Returns the value of air.
double preprocess(const Voxels& voxels, const View3<float>& out, const Settings& settings) {
    const int threads = settings.threads();
    grid::IntensityWindow window;
    if (settings.text("normalization") == "zscore") {
        window = by_zscore(voxels, settings);
    } else {
        std::vector<grid::PaddingValue> padding;
        const grid::BodyStatistics greys = grid::body_statistics(voxels, threads, padding);
        window = by_body(greys, settings);
        for (const grid::PaddingValue& value : padding)
            if (value.value > greys.floor) fill_padding(voxels, value.value, std::floor(greys.floor));
    }
    const auto air = static_cast<float>((window.lo - window.shift) * window.scale);
    for (std::ptrdiff_t z = 0; z < out.size[0]; ++z)
        for (std::ptrdiff_t y = 0; y < out.size[1]; ++y) out.fill(out.row(z, y), 0, out.size[2], air);
    const View3<float> own = own_slices(out, voxels.size[0], settings);
    grid::resample_normalize(voxels, own, grid::Part::whole(own.size), window, threads);
    return window.lo;
}

struct Measured {
    components::Node node;
    double ellipsoid_short_mm;
};

// The nodes of the logits, and their labels on the study's own grid.
std::vector<Measured> postprocess(const View3<float>& output, Volume& study, double floor, const Settings& settings,
                                  std::vector<std::uint16_t>& labels) {
    const Turn turn(study.affine, settings.text("orientation"));
    const View3<float> logits = own_slices(output, turn.view(study.voxels.data(), study.size).size[0], settings);
    const int threads = settings.threads();
    const double threshold = settings.number("threshold"), peak = settings.number("peak");
    const grid::Part whole = grid::Part::whole(logits.size);
    const auto logit = [](double probability) { return std::log(probability / (1 - probability)); };
    const auto above = [&](double probability) {
        std::vector<std::uint8_t> mask(study.voxels.size());
        auto target = turn.view(mask.data(), study.size);
        if (!grid::threshold_resample(logits, whole, target, logit(probability), threads).finite)
            throw Refusal(4, "non-finite-logits: the network answered with NaN or infinity");
        return mask;
    };
    std::vector<std::uint8_t> mask = above(threshold);

    // Labels follow the order of the study as it is stored; axes and millimetres that of the network.
    const auto stored = [&](auto* first) {
        View3<std::decay_t<decltype(*first)>> view;
        const auto width = static_cast<std::ptrdiff_t>(sizeof *first);
        const std::ptrdiff_t bytes[3] = {width * study.size[1] * study.size[2], width * study.size[2], width};
        view.bind(first, study.size, bytes);
        return view;
    };
    const components::Components labelled(stored(mask.data()), 26);
    labels.assign(study.voxels.size(), 0);
    labelled.write(stored(labels.data()), true);
    std::int64_t count = labelled.count();
    if (peak > threshold) {  // a node that nowhere exceeds the peak is dropped, the others keep their order
        const std::vector<std::uint8_t> peaks = above(peak);
        std::vector<std::uint16_t> number(static_cast<std::size_t>(count) + 1, 0);
        for (std::size_t i = 0; i < labels.size(); ++i)
            if (peaks[i] != 0) number[labels[i]] = 1;
        count = 0;
        for (std::uint16_t& of : number)
            if (of != 0) of = static_cast<std::uint16_t>(++count);
        for (std::uint16_t& label : labels) label = number[label];
    }

    const Mat4 turned = turn.affine(study.affine, study.size);
    if (settings.text("outline") == "half-maximum" && count > 0) {
        const std::array<double, 3> x_y_z = spacing_of(turned);
        const double spacing_mm[3] = {x_y_z[2], x_y_z[1], x_y_z[0]};
        const components::OutlineLevels levels = {logit(std::min(0.2, threshold)), logit(std::max(peak, threshold)),
                                                  logit(std::max(0.9, threshold))};
        count = components::outline_nodes(turn.view(study.voxels.data(), study.size), logits, whole,
                                          turn.view(labels.data(), study.size), count, levels, spacing_mm, floor);
        components::number_nodes(stored(labels.data()), count);
    }

    const Mat4 affine = without_header_noise(turned);
    const auto nodes_of = turn.view(labels.data(), study.size);
    const components::Runs runs = components::read_runs(nodes_of, count);
    std::vector<components::Node> nodes(static_cast<std::size_t>(count));
    std::vector<Measured> measured;
    if (nodes.empty()) return measured;
    components::measure_nodes(runs, affine[0].data(), nodes.data(), threads);
    components::mean_probability(runs, logits, whole, &nodes[0].mean_probability, sizeof(components::Node));
    components::EllipsoidMeter<std::uint16_t, float> ellipsoid(nodes_of, logits, whole, affine[0].data());
    for (const components::Node& node : nodes)
        measured.push_back({node, ellipsoid.short_axis(node.label, node.bounds_zyx[0])});
    return measured;
}

void run(const std::string& model, const std::string& path, const Settings& settings) {
    Volume study = read_nifti(path);
    Network network(model, settings);
    const Turn turn(study.affine, settings.text("orientation"));
    const double air = preprocess(turn.view(study.voxels.data(), study.size), network.input(), settings);
    network.infer();

    std::vector<std::uint16_t> labels;
    bool suspicious = false;
    for (const auto& [node, ellipsoid_short_mm] : postprocess(network.output(), study, air, settings, labels)) {
        suspicious = suspicious || node.box_mm[0] > settings.number("suspicious") + 1e-6;
        std::printf("%d %lld %.17g %.17g %.17g %.17g %.17g %.17g %.17g %.17g %.17g %.17g\n", node.label,
                    static_cast<long long>(node.voxels), node.box_mm[0], node.box_mm[1], node.box_mm[2],
                    node.axial_short_mm, node.axial_long_mm, ellipsoid_short_mm, node.mean_probability,
                    node.box_centre_ras_mm[0], node.box_centre_ras_mm[1], node.box_centre_ras_mm[2]);
    }
    std::printf("%s\n", suspicious ? "N1" : "N0");
    if (settings.text("labels").empty()) return;
    std::ofstream file(settings.text("labels"), std::ios::binary);
    file.write(reinterpret_cast<const char*>(labels.data()), static_cast<std::streamsize>(2 * labels.size()));
    if (!file.flush()) throw std::runtime_error("the labels cannot be written");
}

int main(int count, char** arguments) {
    try {
        if (count < 3) throw Refusal(2, "bad-call: study MODEL.onnx STUDY.nii [key=value ...]");
        Settings settings;
        for (int k = 3; k < count; ++k) settings.add(arguments[k]);
        settings.check();
        run(arguments[1], arguments[2], settings);
        return 0;
    } catch (const Refusal& refusal) {
        std::fprintf(stderr, "%s\n", refusal.what());
        return refusal.exit_code;
    } catch (const ov::Exception& error) {
        std::fprintf(stderr, "inference-failed: %s\n", error.what());
        return 4;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
}
