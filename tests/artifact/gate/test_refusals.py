"""Libraries that were really built with what no payload may have: each is refused for just that."""

from __future__ import annotations

import struct

import pytest

from vitrify.artifact.gate import Platform, examine
from vitrify.errors import NativeCodeError, PlatformError

from .libraries import EXPORTED, EXPORTS, PLAIN, check, library, payload

ELF = "x86-64-v3"
PE = "windows-x86_64"
MACHO = ("macos-aarch64", "macos-x86_64")
MAC_LINK = ("-dynamiclib", "-Wl,-install_name,@rpath/payload")
CALLS_OTHER = "int other(void);\n" + EXPORTED + "int vt_payload(int x) { return other() + x; }"
THREAD_LOCAL = "static __thread int t; " + EXPORTED + "int vt_payload(int x) { return t += x; }"
CONSTRUCTOR = PLAIN + "static volatile int made; __attribute__((constructor)) static void make(void) { made = 1; }"


def refused(image: bytes, name: str, message: str) -> None:
    with pytest.raises(NativeCodeError, match=message) as caught:
        check(image, name)
    assert caught.value.path == "lib" and caught.value.code == 16


@pytest.mark.parametrize("name", [ELF, "aarch64", PE, *MACHO])
def test_plain_libraries_pass(name: str) -> None:
    link = {PE: ("-noentry",), **dict.fromkeys(MACHO, MAC_LINK)}.get(name, ("-z", "noexecstack"))
    check(library(name, PLAIN, link), name)


@pytest.mark.parametrize(
    ("message", "source", "link"),
    [
        (r"INIT_ARRAY \(code run at load\)", CONSTRUCTOR, ()),
        (r"FINI_ARRAY", CONSTRUCTOR.replace("constructor", "destructor"), ()),
        (r"has INIT \(code", PLAIN, ("-init=vt_payload",)),
        (r"has FINI \(code", PLAIN, ("-fini=vt_payload",)),
        (r"'vt_payload' is chosen by code that runs at load \(IFUNC\)",
         "static int f(int x) { return x; } static void *pick(void) { return f; }"
         + EXPORTED + "int vt_payload(int) __attribute__((ifunc(\"pick\")));", ()),
        (r"has RUNPATH", PLAIN, ("-rpath=/x",)),
        (r"has RPATH", PLAIN, ("-rpath=/x", "--disable-new-dtags")),
        (r"has AUXILIARY", PLAIN, ("--auxiliary=x",)),
        (r"has FILTER", PLAIN, ("--filter=x",)),
        (r"has SONAME", PLAIN, ("-soname=x",)),
        (r"does not list; expected vt_payload; got vt_other",
         PLAIN + EXPORTED + "int vt_other(void) { return 1; }", ()),
        (r"does not export what the manifest lists", "int vt_payload(int x) { return x; }", ()),
        (r"GNU_STACK segment is writable and executable", PLAIN, ("-z", "execstack")),
        (r"writable and executable", PLAIN + "int kept; int *there = &kept;", ("--omagic",)),
        (r"needs 'other' from elsewhere|has PLTGOT|has JMPREL|has PLTRELSZ", CALLS_OTHER, ("-z", "undefs")),
        (r"needs 'other' from elsewhere",
         "extern int other; " + EXPORTED + "int *vt_payload = &other;", ("-z", "undefs")),
        (r"TLS", THREAD_LOCAL, ()),
        (r"entry point", PLAIN, ("-e", "vt_payload")),
        (r"TEXTREL", PLAIN + 'static int g; __attribute__((used)) static int *at(void) { return &g; }'
         'asm(".text\\n.quad at\\n");', ("-z", "notext", "--no-gc-sections")),
        (r"NOTE", PLAIN, ("--build-id=sha1",)),
        (r"FLAGS", PLAIN, ("-z", "now")),
        (r"RELR", "static int g; " + EXPORTED + "int *vt_payload = &g;", ("--pack-dyn-relocs=relr",)),
        (r"GNU_EH_FRAME", PLAIN + 'asm(".cfi_sections .eh_frame\\n.text\\nx:\\n.cfi_startproc\\nret\\n.cfi_endproc");',
         ("--eh-frame-hdr",)),
    ],
)  # fmt: skip
def test_elf(message: str, source: str, link: tuple[str, ...]) -> None:
    stack = () if "execstack" in link else ("-z", "noexecstack")
    flags = ("-ftls-model=initial-exec",) if "__thread" in source else ()
    refused(library(ELF, source, (*stack, *link), flags=flags), ELF, message)


def test_elf_that_needs_another_library() -> None:
    other = ("-soname=other.so", "-o", "other.so")
    refused(library(ELF, PLAIN, ("--no-as-needed", "other.so"), other=other), ELF, r"NEEDED \(another library\)")


@pytest.mark.parametrize(
    ("message", "source", "link"),
    [
        (r"the entry point", PLAIN, ("-entry:vt_payload",)),
        (r"the library has thread-local storage", PLAIN
         + "static int index; const void *const _tls_used[5] = {0, 0, &index};", ("-noentry", "-include:_tls_used")),
        (r"the library has load configuration", PLAIN + "const long long _load_config_used[40] = {320};",
         ("-noentry", "-include:_load_config_used")),
        (r"writable and executable", PLAIN, ("-noentry", "-section:.text,rwe")),
        (r"does not list; expected vt_payload; got vt_other",
         PLAIN + EXPORTED + "int vt_other(void) { return 1; }", ("-noentry",)),
        (r"forwarded to another library", "int here;", ("-noentry", "-export:vt_payload=other.function")),
        (r"the library has debug data", PLAIN, ("-noentry", "-Brepro")),
        (r"the library's flags", PLAIN, ("-noentry", "-nxcompat:no")),
        (r"characteristics|the library's flags", PLAIN, ("-noentry", "-dynamicbase:no")),
        (r"the library exports nothing", "int here;", ("-noentry", "-exclude-all-symbols")),
        (r"exports without a name", PLAIN, ("-noentry", "-export:vt_payload,@1,NONAME")),
    ],
)  # fmt: skip
def test_pe(message: str, source: str, link: tuple[str, ...]) -> None:
    refused(library(PE, source, link), PE, message)


def test_pe_with_exception_handlers() -> None:
    source = EXPORTED + "int vt_payload(int x) { volatile int kept[40]; kept[x] = x; return kept[0]; }"
    image = library(PE, source, ("-noentry",), flags=("-fasynchronous-unwind-tables",))
    refused(image, PE, "exception handlers")


@pytest.mark.parametrize(
    ("message", "extra"), [("has imports", ()), ("has .*delayed imports", ("-delayload:other.dll",))]
)
def test_pe_that_needs_another_library(message: str, extra: tuple[str, ...]) -> None:
    source = "__declspec(dllimport) " + CALLS_OTHER
    if extra:
        source += "\nvoid *__delayLoadHelper2(void *a, void *b) { return a; }"
    other = ("-noentry", "-out:other.dll", "-implib:other.lib")
    refused(library(PE, source, ("-noentry", "other.lib", *extra), other=other), PE, message)


@pytest.mark.parametrize("name", MACHO)
@pytest.mark.parametrize(
    ("message", "source", "link"),
    [
        (r"code run at load", CONSTRUCTOR, MAC_LINK),
        (r"code run at unload", PLAIN + "static void end(void) {} "
         '__attribute__((used, section("__DATA,__mod_term_func,mod_term_funcs"))) static void *ends = end;', MAC_LINK),
        (r"RPATH", PLAIN, (*MAC_LINK, "-Wl,-rpath,/x")),
        (r"does not list; expected vt_payload; got vt_other",
         PLAIN + EXPORTED + "int vt_other(void) { return 1; }", MAC_LINK),
        (r"stubs of functions elsewhere|lazily bound|from elsewhere", CALLS_OTHER,
         (*MAC_LINK, "-Wl,-undefined,dynamic_lookup")),
        (r"from elsewhere|header's flags", "extern int other; " + EXPORTED + "int *vt_payload = &other;",
         (*MAC_LINK, "-Wl,-undefined,dynamic_lookup")),
        (r"stubs of functions elsewhere|lazily bound|from elsewhere",
         CALLS_OTHER.replace("other(void)", "puts(const char *)").replace("other()", 'puts("")'), MAC_LINK),
        (r"thread-local storage|header's flags", THREAD_LOCAL, MAC_LINK),
        (r"header's flags|no plain export|weak", PLAIN.replace("__attribute__((", "__attribute__((weak, "), MAC_LINK),
    ],
)  # fmt: skip
def test_macho(name: str, message: str, source: str, link: tuple[str, ...]) -> None:
    refused(library(name, source, link), name, message)


@pytest.mark.parametrize("name", MACHO)
def test_macho_that_needs_another_library(name: str) -> None:
    other = ("-dynamiclib", "-Wl,-install_name,@rpath/other.dylib", "-o", "libother.dylib")
    image = library(name, CALLS_OTHER, (*MAC_LINK, "libother.dylib"), other=other)
    refused(image, name, "needs another library|stubs of functions elsewhere|lazily bound")


@pytest.mark.parametrize("name", MACHO)
def test_macho_program(name: str) -> None:
    source = PLAIN + EXPORTED + "int main(void) { return 0; }"
    refused(library(name, source, ()), name, r"the kind of file|header's flags")


@pytest.mark.parametrize(
    ("name", "claimed"),
    [
        (ELF, Platform("linux", "aarch64")), ("aarch64", Platform("linux", "x86_64")),
        (ELF, Platform("windows", "x86_64")), (ELF, Platform("macos", "x86_64")), (PE, Platform("linux", "x86_64")),
        ("macos-aarch64", Platform("macos", "x86_64")), ("macos-x86_64", Platform("macos", "aarch64")),
        ("macos-aarch64", Platform("linux", "aarch64")), (ELF, Platform("plan9", "x86_64")),
        (PE, Platform("windows", "aarch64")),
    ],
)  # fmt: skip
def test_other_platforms(name: str, claimed: Platform) -> None:
    with pytest.raises(PlatformError) as caught:
        examine(payload(name), claimed, EXPORTS, path="lib")
    assert caught.value.code == 15


def test_classes_and_containers() -> None:
    image = bytearray(payload(ELF))
    image[4] = 1
    with pytest.raises(PlatformError, match="class 1"):
        check(bytes(image), ELF)
    fat = struct.pack(">II", 0xCAFEBABE, 1) + bytes(100)
    with pytest.raises(PlatformError, match="several machines"):
        check(fat, "macos-aarch64")
    with pytest.raises(NativeCodeError, match="magic number"):
        check(bytes(4096), ELF)


def test_relocation_of_the_dynamic_table() -> None:
    """It could move the symbols after they were examined: glibc reads the table's addresses at each look-up."""
    image = bytearray(payload(ELF))
    rows = [struct.unpack_from("<IIQQQQQQ", image, 64 + 56 * i) for i in range(8)]
    dynamic = next(row for row in rows if row[0] == 2)
    tags = dict(struct.iter_unpack("<qQ", image[dynamic[2] : dynamic[2] + dynamic[5]]))
    struct.pack_into("<Q", image, tags[7], dynamic[3] + 8)
    refused(bytes(image), ELF, "a relocation is not in data")


def test_missing_stack_segment() -> None:
    image = bytearray(payload(ELF))
    count = struct.unpack_from("<H", image, 56)[0]
    places = [64 + 56 * i for i in range(count)]
    stack = next(p for p in places if struct.unpack_from("<I", image, p)[0] == 0x6474E551)
    struct.pack_into("<I", image, stack, 0)
    refused(bytes(image), ELF, "a segment that no payload has")
    struct.pack_into("<I", image, stack, 3)
    refused(bytes(image), ELF, "INTERP")
