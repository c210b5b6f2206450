//! Voice activity in a recording: the demo's speech model, run from Rust through the C interface of its payload.
//!
//!     vad speech.vit speech.wav
//!
//! prints the probability of speech in each chunk of 32 ms, one to a line.

use std::env;
use std::ffi::{c_char, c_int, c_void, CStr, CString};
use std::fs;
use std::process::ExitCode;
use std::ptr;

const RATE: i64 = 16000;
const CHUNK: usize = 512;
const CONTEXT: usize = 64; // samples; each chunk begins with the end of the one before

/// `vt_request` of vitrify.h.
#[repr(C)]
struct Request {
    inputs: *const *const c_void,
    input_dims: *const *const i64,
    output: extern "C" fn(*mut c_void, i32, *const i64) -> *mut c_void,
    caller: *mut c_void,
    watch: *mut c_void,
    raised: [*mut c_void; 3],
}

/// `vt_payload_table` of vitrify.h, up to what is called here.
#[repr(C)]
struct Table {
    abi: u32,
    size: u32,
    before_run: [*const c_void; 8],
    run: extern "C" fn(*mut c_void, *mut Request) -> i64,
}

#[repr(C)]
struct Opened {
    table: *const Table,
    session: *mut c_void,
    owner: *mut c_void,
}

extern "C" {
    fn artifact_open(path: *const c_char, threads: c_int, opened: *mut Opened, message: *mut c_char, size: usize) -> c_int;
    fn artifact_close(owner: *mut c_void);
}

/// A verified artifact that is ready to run.
struct Session(Opened);

impl Session {
    /// The error has the exit status that belongs to it.
    fn open(path: &str) -> Result<Session, (u8, String)> {
        let path = CString::new(path).map_err(|error| (2, error.to_string()))?;
        let mut opened = Opened { table: ptr::null(), session: ptr::null_mut(), owner: ptr::null_mut() };
        let mut message = [0 as c_char; 4096];
        // SAFETY: all pointers are valid for the call, and the message stays terminated by a zero.
        let status = unsafe { artifact_open(path.as_ptr(), 1, &mut opened, message.as_mut_ptr(), message.len()) };
        if status == 0 {
            return Ok(Session(opened));
        }
        // SAFETY: the last byte is never written.
        let text = unsafe { CStr::from_ptr(message.as_ptr()) };
        Err((status as u8, text.to_string_lossy().into_owned()))
    }

    /// One chunk: its probability; `state` becomes the next one.
    fn run(&self, input: &[f32; CONTEXT + CHUNK], state: &mut [f32; 256]) -> Result<f32, String> {
        let before = *state;
        let mut results = Results { probability: [0.0], state };
        let inputs = [input.as_ptr().cast::<c_void>(), before.as_ptr().cast(), ptr::from_ref(&RATE).cast()];
        let (input_dims, state_dims, rate_dims) = ([1, (CONTEXT + CHUNK) as i64], [2, 1, 128], [0i64; 0]);
        let dims = [input_dims.as_ptr(), state_dims.as_ptr(), rate_dims.as_ptr()];
        let mut request = Request {
            inputs: inputs.as_ptr(),
            input_dims: dims.as_ptr(),
            output: place,
            caller: ptr::from_mut(&mut results).cast(),
            watch: ptr::null_mut(),
            raised: [ptr::null_mut(); 3],
        };
        // SAFETY: the table and the session live as long as `self`; the model has these three inputs of f32, f32 and
        // i64, and two outputs whose memory `place` gives.
        let status = unsafe { ((*self.0.table).run)(self.0.session, &mut request) };
        if status == 0 { Ok(results.probability[0]) } else { Err(format!("status {status:#x}")) }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // SAFETY: no run goes on.
        unsafe { artifact_close(self.0.owner) }
    }
}

/// Where the outputs of a run go.
struct Results<'a> {
    probability: [f32; 1],
    state: &'a mut [f32; 256],
}

/// The memory for an output: null, which ends the run, for one of another size.
extern "C" fn place(caller: *mut c_void, index: i32, dims: *const i64) -> *mut c_void {
    // SAFETY: the caller is the run's `Results`; the first output has two dims and the second three.
    unsafe {
        let results = &mut *caller.cast::<Results>();
        match (index, std::slice::from_raw_parts(dims, if index == 0 { 2 } else { 3 })) {
            (0, [1, 1]) => results.probability.as_mut_ptr().cast(),
            (1, [2, 1, 128]) => results.state.as_mut_ptr().cast(),
            _ => ptr::null_mut(),
        }
    }
}

/// Samples from -1 to 1 of a WAV with 16 kHz, one channel, 16 bits.
fn samples(data: &[u8]) -> Option<Vec<f32>> {
    let word = |at: usize| Some(u16::from_le_bytes(data.get(at..at + 2)?.try_into().ok()?));
    let (mut at, mut known) = (12, false);
    if data.get(..4)? != b"RIFF" || data.get(8..12)? != b"WAVE" {
        return None;
    }
    loop {
        let size = u32::from_le_bytes(data.get(at + 4..at + 8)?.try_into().ok()?) as usize;
        let body = data.get(at + 8..data.len().min(at + 8 + size))?;
        match data.get(at..at + 4)? {
            b"fmt " => known = [word(at + 8)?, word(at + 10)?, word(at + 12)?, word(at + 22)?] == [1, 1, RATE as u16, 16],
            b"data" if known => {
                return Some(body.chunks_exact(2).map(|s| f32::from(i16::from_le_bytes([s[0], s[1]])) / 32768.0).collect());
            }
            _ => {}
        }
        at += 8 + size + size % 2;
    }
}

fn stream(artifact: &str, recording: &str) -> Result<(), (u8, String)> {
    let session = Session::open(artifact)?;
    let data = fs::read(recording).map_err(|error| (1, format!("{recording}: {error}")))?;
    let samples = samples(&data).ok_or((1, format!("{recording}: expected 16 kHz, one channel, 16 bits")))?;
    let (mut input, mut state) = ([0f32; CONTEXT + CHUNK], [0f32; 256]);
    for chunk in samples.chunks_exact(CHUNK) {
        input.copy_within(CHUNK.., 0);
        input[CONTEXT..].copy_from_slice(chunk);
        println!("{}", session.run(&input, &mut state).map_err(|text| (1, text))?);
    }
    Ok(())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().collect();
    let [_, artifact, recording] = &arguments[..] else {
        eprintln!("usage: vad ARTIFACT RECORDING");
        return ExitCode::from(2);
    };
    match stream(artifact, recording) {
        Ok(()) => ExitCode::SUCCESS,
        Err((status, text)) => {
            eprintln!("{text}");
            ExitCode::from(status)
        }
    }
}
