// framesrv.hpp: framesrv.h with objects that give back what they hold, and exceptions. C++17.
//
// SPDX-License-Identifier: Apache-2.0
//
// One source file of a program defines FRAMESRV_IMPLEMENTATION and includes this header before any other.

#ifndef FRAMESRV_HPP
#define FRAMESRV_HPP

#include "framesrv.h"

#include <stdexcept>
#include <string>
#include <utility>

namespace framesrv {

// What every call throws.
class Error : public std::runtime_error {
public:
    explicit Error(const framesrv_error &error)
        : std::runtime_error(error.text), code(error.code), age(error.age), cause(error.cause) {}
    explicit Error(int number) : std::runtime_error(framesrv_meaning(number)), code(number), age(-1) {}

    int code;          // of framesrv_code
    double age;        // seconds since the newest frame arrived; negative: there is none
    std::string cause; // of the newest error of the camera's source, one word; empty: not known
};

// A pinned frame; its end gives the pin back. `frame->planes` and all other fields are those of framesrv_frame.
class Frame {
public:
    explicit Frame(const framesrv_frame &taken) : frame_(taken) {}
    Frame(Frame &&other) noexcept : frame_(other.frame_) { other.frame_.pin = nullptr; }
    Frame &operator=(Frame &&other) noexcept {
        std::swap(frame_, other.frame_);
        return *this;
    }
    Frame(const Frame &) = delete;
    Frame &operator=(const Frame &) = delete;
    ~Frame() { framesrv_release(&frame_); }

    const framesrv_frame *operator->() const { return &frame_; }
    double age() const { return framesrv_age(&frame_); }

    // Throws FRAMESRV_GONE if the segment was cut short, so that zeros may have been read for pixels: ask after having
    // read them.
    void check() const {
        if (int code = framesrv_check(&frame_))
            throw Error(code);
    }
    // Gives the pin back now; throws as check does.
    void release() {
        if (int code = framesrv_release(&frame_))
            throw Error(code);
    }

private:
    framesrv_frame frame_;
};

// Every frame from now on: see framesrv_frames_begin. It ends before its reader.
class Frames {
public:
    explicit Frames(framesrv_reader *reader) {
        framesrv_error error;
        frames_ = framesrv_frames_begin(reader, &error);
        if (frames_ == nullptr)
            throw Error(error);
    }
    Frames(Frames &&other) noexcept : frames_(std::exchange(other.frames_, nullptr)) {}
    Frames(const Frames &) = delete;
    Frames &operator=(const Frames &) = delete;
    ~Frames() { framesrv_frames_end(frames_); }

    Frame next(double timeout = 5.0) {
        framesrv_frame frame;
        framesrv_error error;
        if (framesrv_frames_next(frames_, timeout, &frame, &error))
            throw Error(error);
        return Frame(frame);
    }

private:
    framesrv_frames *frames_;
};

// A reader of one camera: see framesrv_open. Several threads may use one.
class Reader {
public:
    explicit Reader(const std::string &code, const std::string &prefix = "framesrv", const std::string &owner = "") {
        framesrv_error error;
        reader_ = framesrv_open(code.c_str(), prefix.c_str(), owner.c_str(), &error);
        if (reader_ == nullptr)
            throw Error(error);
    }
    Reader(Reader &&other) noexcept : reader_(std::exchange(other.reader_, nullptr)) {}
    Reader(const Reader &) = delete;
    Reader &operator=(const Reader &) = delete;
    ~Reader() { framesrv_close(reader_); }

    // See framesrv_latest.
    Frame latest(double max_age = 1.0, double timeout = 2.0) {
        framesrv_frame frame;
        framesrv_error error;
        if (framesrv_latest(reader_, max_age, timeout, &frame, &error))
            throw Error(error);
        return Frame(frame);
    }
    Frames frames() { return Frames(reader_); }

private:
    framesrv_reader *reader_;
};

} // namespace framesrv

#endif // FRAMESRV_HPP
