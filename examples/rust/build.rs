//! Compiles the shim. VITRIFY_INCLUDE is what `python -m vitrify.include` prints.

use std::env;
use std::process::Command;

fn done(command: &mut Command) {
    let status = command.status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?} failed");
}

fn main() {
    let headers = env::var("VITRIFY_INCLUDE").expect("VITRIFY_INCLUDE=$(python -m vitrify.include)");
    let out = env::var("OUT_DIR").unwrap();
    let compiler = env::var("CXX").unwrap_or_else(|_| "c++".into());
    done(Command::new(compiler).args(["-std=c++17", "-O2", "-fPIC", "-c", "shim.cpp", "-o"])
        .arg(format!("{out}/shim.o")).arg(format!("-I{headers}")));
    done(Command::new("ar").arg("crs").arg(format!("{out}/libshim.a")).arg(format!("{out}/shim.o")));
    println!("cargo:rustc-link-search=native={out}");
    println!("cargo:rustc-link-lib=static=shim");
    println!("cargo:rustc-link-lib=stdc++");
    println!("cargo:rustc-link-lib=crypto");
    println!("cargo:rerun-if-changed=shim.cpp");
    println!("cargo:rerun-if-env-changed=VITRIFY_INCLUDE");
}
