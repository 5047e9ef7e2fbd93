//! A way to the server that can be cut, closed, or go silent.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

pub struct Proxy {
    pub address: SocketAddr,
    open: Arc<Mutex<JoinSet<()>>>,
    manner: watch::Sender<Manner>,
    /// How often connections were cut on this side alone, and whether the server may notice.
    near: watch::Sender<(usize, bool)>,
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
        let open = Arc::new(Mutex::new(JoinSet::new()));
        let connections = open.clone();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let _ = client.set_nodelay(true);
                let (manner, server) = (*watched.borrow(), server.clone());
                let mut cuts = cuts.clone();
                let cut = cuts.borrow_and_update().0;
                connections.lock().unwrap().spawn(async move {
                    match manner {
                        Manner::Closing => {}
                        Manner::Silent => std::future::pending().await,
                        Manner::Passing => {
                            if let Ok(mut server) = TcpStream::connect(server).await {
                                let _ = server.set_nodelay(true);
                                tokio::select! {
                                    _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                                    _ = cuts.wait_for(|(cuts, _)| *cuts > cut) => {}
                                }
                                drop(client);
                                let _ = cuts.wait_for(|(cuts, noticed)| *cuts == cut || *noticed).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, open, manner, near }
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
