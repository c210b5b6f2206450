#!/bin/sh
# How speech.wav was made: synthetic voices (espeak-ng), pauses, and noise under all of it (sox).
set -eu
cd "$(dirname "$0")"
parts=$(mktemp -d)
trap 'rm -rf "$parts"' EXIT

say() {  # number, voice, words per minute, text
    espeak-ng -v "$2" -s "$3" -w "$parts/raw.wav" "$4"
    sox -R "$parts/raw.wav" -r 16000 -b 16 -c 1 "$parts/$1.wav" norm -5
}
quiet() {  # number, seconds
    sox -R -n -r 16000 -b 16 -c 1 "$parts/$1.wav" trim 0 "$2"
}

quiet 01 1.5
say   02 en-gb    155 "Good morning. This recording tells speech from silence."
quiet 03 1.2
say   04 en-us+f3 165 "A model listens to thirty two milliseconds at a time."
quiet 05 2.4
say   06 en-gb+m5 150 "Between the sentences there is only noise,"
quiet 07 0.5
say   08 en-gb+m5 150 "and sometimes a short pause."
quiet 09 2.0
say   10 de       150 "Auch andere Sprachen erkennt es sofort."
quiet 11 1.6
say   12 en-us+f4 170 "Thank you for listening. Goodbye."
quiet 13 1.5

sox "$parts"/??.wav "$parts/speech.wav"
length=$(soxi -D "$parts/speech.wav")
sox -R -n -r 16000 -b 16 -c 1 "$parts/noise.wav" synth "$length" pinknoise vol 0.025
sox -R -m -v 0.7 "$parts/speech.wav" -v 1 "$parts/noise.wav" -b 16 speech.wav
soxi speech.wav
