//! How Go's `exec.ExitError` tells of the end of a program.

/// The end with this exit code, or by a signal if it is the negative number of one.
pub(crate) fn exit_text(code: i32) -> String {
    // A host without programs needs no names of signals.
    if code >= 0 || !cfg!(feature = "native") {
        return format!("exit status {code}");
    }
    let name = match code.unsigned_abs() {
        1 => "hangup",
        2 => "interrupt",
        3 => "quit",
        6 => "aborted",
        9 => "killed",
        11 => "segmentation fault",
        13 => "broken pipe",
        15 => "terminated",
        other => return format!("signal: signal {other}"),
    };
    format!("signal: {name}")
}

#[cfg(all(test, feature = "native"))]
mod tests {
    use super::exit_text;

    #[test]
    fn ctl_02_the_end_of_a_program_is_told_in_go_s_words() {
        assert_eq!(exit_text(7), "exit status 7");
        assert_eq!(exit_text(-9), "signal: killed");
        assert_eq!(exit_text(-40), "signal: signal 40");
    }
}
