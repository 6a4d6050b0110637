"""Makes the small recordings in this folder, one for each way in which telephony and its tools write sound, and INDEX.tsv.

Needs ffmpeg, sox with all its formats, lame and flac, which neither the archiver nor its tests need: what they made is kept here.
INDEX.tsv has, for each file, how long a stock decoder plays it: ffmpeg, or sox where ffmpeg does not open it. A file that neither
opens is an error. Speech comes from ../audio.

    python3 tests/data/kinds/make.py
"""

from __future__ import annotations

import hashlib
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
SPEECH = HERE.parent / "audio" / "g711-mulaw-mono-8000.wav"

# `{i}` 0.8 s of speech as WAV, 16 bit, 8 kHz, mono; `{h}` 0.25 s of it; `{o}` the file to make.
FF = "ffmpeg -v error -y -bitexact -i {i} -map_metadata -1 "
HALF = "ffmpeg -v error -y -bitexact -i {h} -map_metadata -1 "
LAME = "lame --quiet "
KINDS = {
    # WAV: codecs
    "pcm-u8.wav": FF + "-c:a pcm_u8 {o}",
    "pcm-s16.wav": HALF + "{o}",
    "pcm-s24-extensible.wav": HALF + "-c:a pcm_s24le {o}",
    "pcm-s32.wav": "sox {h} -e signed -b 32 {o}",
    "pcm-f32.wav": HALF + "-c:a pcm_f32le {o}",
    "pcm-s16-stereo.wav": HALF + "-ac 2 {o}",
    "alaw.wav": FF + "-c:a pcm_alaw {o}",
    "mulaw.wav": FF + "-c:a pcm_mulaw {o}",
    "mulaw-sox.wav": "sox {i} -e mu-law {o}",
    "gsm.wav": FF + "-c:a libgsm_ms {o}",
    "gsm-sox.wav": "sox {i} -e gsm-full-rate {o}",
    "adpcm-ms.wav": FF + "-c:a adpcm_ms {o}",
    "adpcm-ima.wav": FF + "-c:a adpcm_ima_wav {o}",
    "adpcm-ima-sox.wav": "sox {i} -e ima-adpcm {o}",
    "g722.wav": FF + "-ar 16000 -c:a g722 {o}",
    "g726.wav": FF + "-c:a g726 -b:a 32k {o}",
    "g723.wav": FF + "-c:a g723_1 -b:a 6.3k {o}",
    "mp3.wav": FF + "-c:a libmp3lame -b:a 16k {o}",
    "mp2.wav": FF + "-ar 16000 -c:a mp2 -b:a 32k {o}",
    "aac.wav": FF + "-c:a aac -b:a 16k {o}",
    # WAV: frames
    "streamed.wav": HALF + "-f wav pipe:1 > {o}",
    "streamed-mulaw-sox.wav": "sox {i} -e mu-law -t wav - | cat > {o}",
    "streamed-gsm.wav": FF + "-c:a libgsm_ms -f wav pipe:1 > {o}",
    "rf64.wav": FF + "-c:a pcm_mulaw -rf64 always {o}",
    "bext.wav": FF + "-c:a pcm_mulaw -write_bext 1 -metadata description=call {o}",
    "tagged.wav": "ffmpeg -v error -y -i {i} -c:a pcm_mulaw -metadata title=call -metadata artist=agent {o}",
    "rifx.wav": "sox {h} -B {o}",
    "w64.w64": HALF + "{o}",
    "odd.wav": FF + "-c:a pcm_mulaw -t 0.500125 {o}",
    # other frames around PCM and friends
    "pcm-s16.aiff": HALF + "{o}",
    "mulaw.aifc": "sox {i} -e mu-law -t aiffc {o}",
    "pcm-s16.au": HALF + "{o}",
    "mulaw.au": FF + "-c:a pcm_mulaw {o}",
    "alaw.au": FF + "-c:a pcm_alaw {o}",
    "streamed.au": FF + "-c:a pcm_mulaw -f au pipe:1 > {o}",
    "pcm-s16.caf": HALF + "{o}",
    "mulaw.caf": FF + "-c:a pcm_mulaw {o}",
    "opus.caf": FF + "-c:a libopus -b:a 12k {o}",
    "mulaw.voc": "sox {i} -e mu-law -t voc {o}",
    "pcm-s16.voc": HALF + "{o}",
    "mulaw.sph": "sox {i} -e mu-law -t sph {o}",
    "pcm-s16.ircam": "sox {h} -t ircam {o}",
    # MP3 and its relatives
    "cbr.mp3": FF + "-ar 44100 -b:a 48k {o}",
    "cbr-8k-mono.mp3": FF + "-b:a 8k {o}",
    "cbr-stereo-22k.mp3": FF + "-ar 22050 -ac 2 -b:a 32k {o}",
    "vbr.mp3": FF + "-q:a 6 {o}",
    "abr.mp3": FF + "-ar 16000 -abr 1 -b:a 24k {o}",
    "lame-vbr.mp3": LAME + "-V 5 {i} {o}",
    "lame-cbr.mp3": LAME + "-b 16 {i} {o}",
    "no-xing.mp3": FF + "-b:a 16k -write_xing 0 -id3v2_version 0 {o}",
    "no-xing-vbr.mp3": FF + "-q:a 6 -write_xing 0 -id3v2_version 0 {o}",
    "streamed.mp3": FF + "-b:a 16k -f mp3 pipe:1 > {o}",
    "streamed-lame.mp3": LAME + "-V 5 {i} - | cat > {o}",
    "freeformat.mp3": LAME + "--freeformat -b 24 {i} {o}",
    "shine.mp3": FF + "-ar 32000 -c:a libshine -b:a 32k {o}",
    "crc.mp3": LAME + "-p -b 16 {i} {o}",
    "mp2.mp2": FF + "-ar 16000 -b:a 32k {o}",
    "mp2-48k-stereo.mp2": HALF + "-ar 48000 -ac 2 -b:a 64k {o}",
    # AAC and ISO media
    "adts.aac": FF + "-b:a 16k {o}",
    "latm.loas": FF + "-b:a 16k -f latm {o}",
    "plain.m4a": FF + "-b:a 16k {o}",
    "faststart.m4a": FF + "-b:a 16k -movflags +faststart {o}",
    "fragmented.mp4": FF + "-b:a 16k -f mp4 -movflags +frag_keyframe+empty_moov -frag_duration 300000 {o}",
    "fragmented-dash.mp4": FF + "-b:a 16k -f mp4 -movflags +dash+frag_keyframe+empty_moov -frag_duration 300000 {o}",
    "fragmented-mfra.mp4": FF + "-b:a 16k -f mp4 -movflags +frag_keyframe -frag_duration 300000 {o}",
    "streamed.mp4": FF + "-b:a 16k -f mp4 -movflags +frag_keyframe+empty_moov+default_base_moof pipe:1 > {o}",
    "opus.mp4": FF + "-c:a libopus -b:a 12k {o}",
    "alac.m4a": HALF + "-c:a alac {o}",
    "mulaw.mov": FF + "-c:a pcm_mulaw {o}",
    "aac.3gp": FF + "-c:a aac -b:a 16k {o}",
    "amr.3gp": "sox {i} -t amr-nb - | ffmpeg -v error -y -bitexact -f amr -i pipe:0 -c copy {o}",
    # Ogg, Matroska and others
    "opus.ogg": FF + "-c:a libopus -b:a 12k {o}",
    "opus.opus": FF + "-c:a libopus -b:a 12k -application voip -frame_duration 60 -serial_offset 7 {o}",
    "vorbis.ogg": FF + "-c:a libvorbis -q:a 0 {o}",
    "speex.ogg": FF + "-c:a libspeex {o}",
    "flac.oga": HALF + "-c:a flac {o}",
    "plain.flac": "flac -s -f --no-padding -b 576 -o {o} {h}",
    "streamed.flac": "flac -s --no-padding -b 576 -c {h} | cat > {o}",
    "ffmpeg.flac": HALF + "-frame_size 576 {o}",
    "opus.webm": FF + "-c:a libopus -b:a 12k {o}",
    "streamed.webm": FF + "-c:a libopus -b:a 12k -f webm pipe:1 > {o}",
    "live.webm": FF + "-c:a libopus -b:a 12k -f webm -live 1 {o}",
    "pcm.mka": HALF + "-c:a pcm_s16le {o}",
    "mp3.mka": FF + "-c:a libmp3lame -b:a 16k {o}",
    "wma.wma": FF + "-ar 16000 -c:a wmav2 -b:a 24k {o}",
    "aac.ts": FF + "-b:a 16k -f mpegts {o}",
    "aac.flv": FF + "-ar 22050 -b:a 16k {o}",
    "mulaw.avi": HALF + "-c:a pcm_mulaw {o}",
    "amr-nb.amr": "sox {i} -t amr-nb {o}",
    "frames.gsm": FF + "-c:a libgsm {o}",
    "ac3.ac3": FF + "-ar 32000 -b:a 32k {o}",
}
# Made of the others by hand: as bytes are joined and stamped on their way. `a + b` is one after the other.
ID3 = b"ID3\x04\0\0\0\0\x02\x00" + bytes(256)
APE = b"APETAGEX" + (2000).to_bytes(4, "little") + (32).to_bytes(4, "little") + bytes(4) + b"\0\0\0\xa0" + bytes(8)
MADE = {
    "id3.mp3": lambda of: ID3 + of("no-xing.mp3"),
    "id3-twice.mp3": lambda of: ID3 + ID3 + of("lame-cbr.mp3"),
    "id3v1.mp3": lambda of: of("no-xing.mp3") + b"TAG" + bytes(125),
    "ape-behind.mp3": lambda of: of("no-xing.mp3") + APE,
    "joined.mp3": lambda of: of("cbr-8k-mono.mp3") + of("cbr-8k-mono.mp3"),
    "joined-no-xing.mp3": lambda of: of("no-xing.mp3") + of("no-xing.mp3"),
    "joined-other-rate.mp3": lambda of: of("no-xing.mp3") + of("abr.mp3") + of("no-xing-vbr.mp3"),
    "joined-id3-between.mp3": lambda of: ID3 + of("lame-cbr.mp3") + b"TAG" + bytes(125) + ID3 + of("lame-cbr.mp3"),
    "joined-mid-frame.mp3": lambda of: of("no-xing.mp3")[:-30] + of("no-xing.mp3"),
    "begins-mid-frame.mp3": lambda of: of("no-xing.mp3")[50:],
    "zeros-before.mp3": lambda of: bytes(2000) + of("no-xing.mp3"),
    "id3.aac": lambda of: ID3 + of("adts.aac"),
    "joined.aac": lambda of: of("adts.aac") + of("adts.aac"),
    "id3.wav": lambda of: ID3 + of("mulaw.wav"),
    "id3.flac": lambda of: ID3 + of("plain.flac"),
    "joined.ogg": lambda of: of("opus.ogg") + of("opus.opus"),
    "silence.awb": lambda of: b"#!AMR-WB\n" + b"\x7c" * 50,
    "size-zero.wav": lambda of: _sized(of("mulaw-plain.wav"), 0, 0),
    "size-all-ones.wav": lambda of: _sized(of("mulaw-plain.wav"), 0xFFFFFFFF, 0xFFFFFFFF),
    "size-of-riff-only.wav": lambda of: _sized(of("mulaw-plain.wav"), len(of("mulaw-plain.wav")) - 8, 0),
    "freeswitch-streamed.wav": lambda of: _sized(of("pcm-s16.wav"), 0x7FFFFFFF, 0x7FFFF000),
    "list-behind.wav": lambda of: _followed(of("mulaw-plain.wav"), b"LIST\x1a\0\0\0INFOISFT\x0e\0\0\0Lavf59.27.100\0"),
    "zeros-behind.wav": lambda of: of("mulaw-plain.wav") + bytes(64),
}
PLAIN = "mulaw-plain.wav", "sox {i} -e mu-law {o}"


def _sized(wav: bytes, riff: int, data: int) -> bytes:
    at = wav.index(b"data") + 4
    return wav[:4] + riff.to_bytes(4, "little") + wav[8:at] + data.to_bytes(4, "little") + wav[at + 4 :]


def _followed(wav: bytes, chunk: bytes) -> bytes:
    return wav[:4] + (len(wav) + len(chunk) - 8).to_bytes(4, "little") + wav[8:] + chunk


def shell(command: str) -> bytes:
    return subprocess.run(["bash", "-o", "pipefail", "-c", command], check=True, capture_output=True).stdout


def plays(path: Path) -> tuple[float, str]:
    """How many seconds a stock decoder makes of it, and which."""
    rate = 48000
    for name, command in (
        ("ffmpeg", f"ffmpeg -v quiet -i {shlex.quote(str(path))} -map 0:a:0 -ac 1 -ar {rate} -f s16le -"),
        ("sox", f"sox {shlex.quote(str(path))} -c 1 -r {rate} -e signed -b 16 -t raw -"),
    ):
        try:
            pcm = shell(command)
        except subprocess.CalledProcessError:
            continue
        if pcm:
            return len(pcm) / 2 / rate, name
    return 0.0, ""


def main() -> None:
    made: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        whole, half = work / "whole.wav", work / "half.wav"
        for target, length in (whole, 0.8), (half, 0.25):
            shell(f"ffmpeg -v error -bitexact -ss 1 -t {length} -i {SPEECH} -c:a pcm_s16le {target}")
        for name, command in {**KINDS, PLAIN[0]: PLAIN[1]}.items():
            out = work / name
            try:
                shell(command.format(i=whole, h=half, o=out))
            except subprocess.CalledProcessError as failed:
                print(f"{name}: {failed.stderr.decode(errors='replace')[:300]}", file=sys.stderr)
                continue
            made[name] = out.read_bytes()
    for name, make in MADE.items():
        made[name] = make(made.__getitem__)
    for old in HERE.iterdir():
        if old.suffix not in (".py", ".tsv", ".md"):
            old.unlink()
    lines = []
    for name, body in made.items():
        (HERE / name).write_bytes(body)
        seconds, decoder = plays(HERE / name)
        if not seconds:
            print(f"{name}: no stock decoder opens it", file=sys.stderr)
        lines.append(f"{name}\t{len(body)}\t{seconds:.3f}\t{decoder}\t{hashlib.sha256(body).hexdigest()}\n")
    (HERE / "INDEX.tsv").write_text("".join(lines))
    print(f"{len(made)} files, {sum(map(len, made.values()))} bytes")


if __name__ == "__main__":
    main()
