//! Running a program whose own children are to go on: what starts a service.

use super::{Finished, Subprocess, SubprocessError, kill_group};
use std::io::{Read, Seek};
use std::process::Stdio;

impl Subprocess {
    /// Runs the program to its end and leaves alone whatever it started.
    ///
    /// Its output goes into files without a name, not into pipes: a service that kept one would be killed by its first
    /// word after we closed it, and would keep us waiting until then. What [`Subprocess::stdin`] and
    /// [`Subprocess::stdout_to`] were told does not count.
    pub async fn leave(self) -> Result<Finished, SubprocessError> {
        let program = self.name();
        let start = |error| SubprocessError::Start { program: program.clone(), error };
        let broken = |error| SubprocessError::Output { program: program.clone(), error };
        let (mut out, mut err) = (tempfile::tempfile().map_err(start)?, tempfile::tempfile().map_err(start)?);
        let handle = |file: &std::fs::File| file.try_clone().map(Stdio::from).map_err(start);
        let mut command = self.command();
        command.stdin(Stdio::null()).stdout(handle(&out)?).stderr(handle(&err)?);
        let mut child = command.spawn().map_err(start)?;
        let Ok(status) = tokio::time::timeout(self.deadline, child.wait()).await else {
            kill_group(&mut child).await;
            return Err(SubprocessError::Deadline { program, seconds: self.deadline.as_secs() });
        };
        let cap = self.cap_bytes as u64;
        let read = |file: &mut std::fs::File| {
            let mut bytes = Vec::new();
            file.rewind().and_then(|()| file.take(cap).read_to_end(&mut bytes)).map(|_| bytes).map_err(broken)
        };
        let (stdout, stderr) = (read(&mut out)?, read(&mut err)?);
        let stderr = String::from_utf8_lossy(&stderr).into_owned();
        Ok(Finished { status: status.map_err(broken)?, stdout, stderr })
    }
}
