// What this CPU can run, which target of an artifact suits it best, and how many threads a run may use.
#ifndef VITRIFY_MACHINE_HPP
#define VITRIFY_MACHINE_HPP

#include <sched.h>
#include <sys/auxv.h>
#include <sys/syscall.h>

#include <cmath>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "manifest.hpp"

namespace vitrify::detail {

#if !defined(__linux__) || !(defined(__x86_64__) || defined(__aarch64__))
#error "artifacts run on Linux on x86-64 and aarch64"
#endif

#if defined(__x86_64__)
inline constexpr char architecture[] = "x86_64";
#else
inline constexpr char architecture[] = "aarch64";
#endif

inline std::set<std::string> split_words(const std::string &text) {
    std::istringstream stream(text);
    std::set<std::string> found;
    for (std::string word; stream >> word;) found.insert(word);
    return found;
}

inline std::string first_line(const std::string &path) {
    std::ifstream file(path);
    std::string line;
    std::getline(file, line);
    return line;
}

// The features that the operating system enables, by the names that it gives them.
inline std::set<std::string> cpu_features() {
#if defined(__x86_64__)
    std::ifstream file("/proc/cpuinfo");
    for (std::string line; std::getline(file, line);) {
        const std::size_t colon = line.find(':');
        if (colon != std::string::npos && line.compare(0, 5, "flags") == 0 &&
            line.find_first_not_of(" \t", 5) == colon) {
            return split_words(line.substr(colon + 1));
        }
    }
    return {};
#else
    // asm/hwcap.h of Linux for arm64: bits of AT_HWCAP and AT_HWCAP2
    const unsigned long one = ::getauxval(AT_HWCAP), two = ::getauxval(AT_HWCAP2);
    std::set<std::string> found;
    for (const auto &[name, bit] :
         {std::pair{"asimd", 1}, std::pair{"asimdhp", 10}, std::pair{"asimddp", 20}, std::pair{"sve", 22}}) {
        if (one >> bit & 1) found.insert(name);
    }
    for (const auto &[name, bit] : {std::pair{"sve2", 1}, std::pair{"i8mm", 13}, std::pair{"bf16", 14}}) {
        if (two >> bit & 1) found.insert(name);
    }
    return found;
#endif
}

// Asks the kernel to let this process use AMX's tile registers; whether it does.
inline bool request_amx() {
#if defined(__x86_64__)
    static const bool allowed = ::syscall(SYS_arch_prctl, 0x1023, 18) == 0;  // ARCH_REQ_XCOMP_PERM, XTILEDATA
    return allowed;
#else
    return false;
#endif
}

// What this machine misses of a target; empty where its code runs here.
inline std::string missing_features(const Target &target, const std::set<std::string> &here) {
    for (const TargetRow &row : targets) {
        if (target.target != row.name) continue;
        if (target.os != "linux" || target.architecture != architecture)
            return target.os + " on " + target.architecture;
        std::set<std::string> needs = split_words(row.features);
        needs.insert(target.features.begin(), target.features.end());
        std::string missing;
        bool amx = false;
        for (const std::string &feature : needs) {
            if (!here.count(feature)) missing += (missing.empty() ? "" : ", ") + feature;
            amx = amx || feature == "amx_tile" || feature == "amx_bf16" || feature == "amx_int8";
        }
        return missing.empty() && amx && !request_amx() ? "the kernel's permission to use AMX" : missing;
    }
    return "known target '" + shortened(target.target) + "'";
}

// The best of the targets that this CPU runs: the higher level, then the one using more features.
inline const Target &choose_target(const std::vector<Target> &given, const std::string &path) {
    const std::set<std::string> here = cpu_features();
    const auto rank = [](const Target &target) {
        int level = 0;
        for (const TargetRow &row : targets) {
            level++;
            if (target.target == row.name) return std::pair{level, target.features.size()};
        }
        return std::pair{0, std::size_t{0}};
    };
    const Target *best = nullptr;
    std::string problems;
    for (const Target &target : given) {
        if (best && rank(target) <= rank(*best)) continue;
        const std::string missing = missing_features(target, here);
        if (missing.empty()) {
            best = &target;
        } else {
            problems += (problems.empty() ? "" : "; ") + shortened(target.target) + " misses " + missing;
        }
    }
    if (!best) {
        throw PlatformError("no target of the artifact runs on this CPU", path, problems, "",
                            "compile the model for this CPU's target");
    }
    return *best;
}

inline std::vector<int> affinity() {
    std::vector<int> found;
    cpu_set_t set;
    CPU_ZERO(&set);
    if (::sched_getaffinity(0, sizeof set, &set) == 0) {
        for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
            if (CPU_ISSET(cpu, &set)) found.push_back(cpu);
        }
    }
    if (found.empty()) found.push_back(0);
    return found;
}

// CPUs' worth of time that the control group of this process, or one above it, may take; infinite without a limit.
inline double cgroup_quota() {
    double least = INFINITY;
    const auto note = [&](const std::string &limit, const std::string &period) {
        const double numerator = std::atof(limit.c_str()), denominator = std::atof(period.c_str());
        if (numerator > 0 && denominator > 0) least = std::min(least, numerator / denominator);
    };
    std::ifstream file("/proc/self/cgroup");
    for (std::string line; std::getline(file, line);) {
        const std::size_t one = line.find(':'), two = line.find(':', one + 1);
        if (one == std::string::npos || two == std::string::npos) continue;
        const std::string controllers = line.substr(one + 1, two - one - 1);
        std::vector<std::string> mounts;
        if (controllers.empty()) mounts = {""};
        if (("," + controllers + ",").find(",cpu,") != std::string::npos)
            mounts = {"/cpu", "/cpu,cpuacct", "/" + controllers};
        for (const std::string &mount : mounts) {
            for (std::string group = line.substr(two + 1);; group.erase(group.find_last_of('/'))) {
                const std::string level = "/sys/fs/cgroup" + mount + group + "/";
                std::istringstream both(first_line(level + "cpu.max"));
                std::string limit, period;
                both >> limit >> period;
                note(limit, period);
                note(first_line(level + "cpu.cfs_quota_us"), first_line(level + "cpu.cfs_period_us"));
                if (group.find('/') == std::string::npos) break;
            }
        }
    }
    return least;
}

// CPUs this process may keep busy at once: its affinity, cut to the quota rounded up.
inline int available_cpus() {
    const auto count = static_cast<double>(affinity().size());
    return std::max(1, static_cast<int>(std::min(count, std::ceil(cgroup_quota()))));
}

// Threads for a run unless told otherwise: one per physical core, within available_cpus().
inline int default_threads() {
    std::set<std::string> cores;
    for (const int cpu : affinity()) {
        const std::string name = std::to_string(cpu);
        const std::string siblings =
            first_line("/sys/devices/system/cpu/cpu" + name + "/topology/thread_siblings_list");
        cores.insert(siblings.empty() ? name : siblings);
    }
    return std::min(available_cpus(), static_cast<int>(cores.size()));
}

}  // namespace vitrify::detail

#endif
