//! A way to the server that can be cut, closed, or go silent.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

pub struct Proxy {
    pub address: SocketAddr,
    open: Arc<Mutex<JoinSet<()>>>,
    manner: watch::Sender<Manner>,
    /// How often connections were cut on this side alone, and whether the server may notice.
    near: watch::Sender<(usize, bool)>,
    /// Whether what is said on open connections waits here.
    stalled: watch::Sender<bool>,
    /// How long each piece of it waits here.
    delay: watch::Sender<Duration>,
}

#[derive(Clone, Copy, PartialEq)]
enum Manner {
    Passing,
    /// Connections are taken and closed at once.
    Closing,
    /// Connections are taken and nothing is ever said.
    Silent,
}

impl Proxy {
    pub async fn before(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (manner, watched) = watch::channel(Manner::Passing);
        let (near, cuts) = watch::channel((0, false));
        let (stalled, stalls) = watch::channel(false);
        let (delay, delays) = watch::channel(Duration::ZERO);
        let open = Arc::new(Mutex::new(JoinSet::new()));
        let connections = open.clone();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let _ = client.set_nodelay(true);
                let (manner, server) = (*watched.borrow(), server.clone());
                let (mut cuts, way) = (cuts.clone(), (stalls.clone(), delays.clone()));
                let cut = cuts.borrow_and_update().0;
                connections.lock().unwrap().spawn(async move {
                    match manner {
                        Manner::Closing => {}
                        Manner::Silent => std::future::pending().await,
                        Manner::Passing => {
                            if let Ok(mut server) = TcpStream::connect(server).await {
                                let _ = server.set_nodelay(true);
                                tokio::select! {
                                    () = carry(&mut client, &mut server, way) => {}
                                    _ = cuts.wait_for(|(cuts, _)| *cuts > cut) => {}
                                }
                                drop(client);
                                let _ =
                                    cuts.wait_for(|(cuts, noticed)| *cuts == cut || *noticed).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, open, manner, near, stalled, delay }
    }

    /// Ends every connection wherever in a frame it is.
    pub fn cut(&self) {
        self.open.lock().unwrap().abort_all();
    }

    /// As [`Self::cut`], but the server does not notice yet.
    pub fn cut_near(&self) {
        self.near.send_modify(|(cuts, noticed)| (*cuts, *noticed) = (*cuts + 1, false));
    }

    pub fn let_the_server_notice(&self) {
        self.near.send_modify(|(_, noticed)| *noticed = true);
    }

    /// Passes nothing on from here on, and lets connections stand.
    pub fn stall(&self) {
        self.stalled.send_replace(true);
    }

    pub fn go_on(&self) {
        self.stalled.send_replace(false);
    }

    /// Has everything come this much later, each way.
    pub fn delay(&self, by: Duration) {
        self.delay.send_replace(by);
    }

    pub fn close(&self) {
        self.manner.send_replace(Manner::Closing);
        self.cut();
    }

    pub fn pass(&self) {
        self.manner.send_replace(Manner::Passing);
    }

    pub fn silence(&self) {
        self.manner.send_replace(Manner::Silent);
    }
}

type Way = (watch::Receiver<bool>, watch::Receiver<Duration>);

async fn carry(client: &mut TcpStream, server: &mut TcpStream, way: Way) {
    let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
    tokio::select! {
        () = pump(from_client, to_server, way.clone()) => {}
        () = pump(from_server, to_client, way) => {}
    }
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    (mut stalls, delays): Way,
) {
    let mut bytes = vec![0; 16 << 10];
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        let delay = *delays.borrow();
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        if stalls.wait_for(|stalled| !stalled).await.is_err()
            || to.write_all(&bytes[..read]).await.is_err()
        {
            return;
        }
    }
}
